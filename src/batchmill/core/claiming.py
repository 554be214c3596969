"""What a worker claims next, decided from what it holds. Pure but for what it remembers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from batchmill.core.holdings import Holdings
from batchmill.core.links import Link
from batchmill.core.linkset import Links
from batchmill.core.models import Catalogue, is_usable
from batchmill.core.pool import Pool
from batchmill.core.work import OpenShard
from batchmill.ports import Want

SHARDS_AT_ONCE = 4
LOW_WINDOWS = 2
"""The next shard is opened before the last one runs dry: while so many windows of lines wait."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many shards a worker may hold: open ones (also by the bytes of their input, one
    always), and ones it only settles."""

    open_shards: int = 64
    open_bytes: int = 24 * 1024 * 1024
    settling_shards: int = 32


def run_low(links: Iterable[Link], lines: Mapping[str, int], window: int) -> list[Link]:
    """The engines for whose models too few lines wait. What waits for one engine is no reason to
    let another run dry."""
    return [
        link
        for link in links
        if sum(n for model, n in lines.items() if link.serves(model)) < LOW_WINDOWS * window
    ]


def what_to_claim(
    shards: Sequence[OpenShard],
    room: Room,
    *,
    low: bool,
    may_send: bool,
    serving: frozenset[str] | None,
    servable: frozenset[str] | None = None,
) -> Want | None:
    """More lines when few are left for the engines that serve these models; else only jobs that
    have none of their lines here, so that a small job does not wait for a big one, and shards whose
    owner died. None: nothing at all."""
    running = [shard for shard in shards if shard.lease.stop is None]
    size = sum(shard.lease.shard.length for shard in running)
    fits = not running or (len(running) < room.open_shards and size < room.open_bytes)
    runs = fits and may_send and serving != frozenset()
    to_settle = room.settling_shards - (len(shards) - len(running))
    if not runs and to_settle <= 0:
        return None
    return Want(
        limit=SHARDS_AT_ONCE if low else 1,
        serving=serving,
        not_jobs=frozenset() if low else frozenset(shard.job.id for shard in running),
        running=runs,
        settling=to_settle > 0,
        settle_limit=to_settle,
        servable=servable,
    )


class Appetite:
    """What a worker lacks: for which of its engines too few lines are here, as far as it knows of
    work for them."""

    def __init__(
        self,
        links: Links,
        aliases: Mapping[str, str],
        pool: Pool,
        holdings: Holdings,
        room: Room,
    ) -> None:
        self._links, self._aliases, self._pool, self._holdings = links, aliases, pool, holdings
        self._room = room
        self._may_have_work = frozenset(links)
        """The engines for which there may be work that is not claimed."""
        self._may_have_others = True
        """There may be jobs of which nothing is here."""

    def catalogue(self) -> Catalogue:
        """What the engines serve, as they were last seen."""
        return Catalogue(self._aliases, self._links.statuses())

    def rename(self, aliases: Mapping[str, str]) -> bool:
        """Read lines with these aliases from now on; whether they are others than before."""
        before, self._aliases = self._aliases, aliases
        return before != aliases

    def look_again(self) -> None:
        """There may be work for every engine."""
        self._may_have_work, self._may_have_others = frozenset(self._links), True

    def found_none(self, low: frozenset[Link], want: Want) -> None:
        """There is no work of the kind that was wanted, until `look_again` says otherwise."""
        if want.running and want.settling:
            self._may_have_work -= low
            self._may_have_others = self._may_have_others and bool(low)

    def low(self) -> frozenset[Link]:
        """The engines that run low and for which there may be work. Asked with many a line that
        is sent, hence the cheap question first."""
        up = [each for each in self._may_have_work if is_usable(each.status)]
        if not up or not run_low(up, self._pool.ready_lines(), self._links.window):
            return frozenset()
        return frozenset(run_low(up, self.waiting_lines(), self._links.window))

    def waiting_lines(self) -> Counter[str]:
        """How many lines of each model wait here, those of shards that are still read included."""
        waiting = self._pool.ready_lines()
        catalogue = self.catalogue()
        for shard in self._holdings.shards():
            if not shard.opened:
                waiting[catalogue.served_name(shard.job.model or "")] += shard.lease.shard.lines
        return waiting

    def want(self, low: frozenset[Link], *, may_send: bool) -> Want | None:
        """What to claim for the engines that run low, or where none does, for all; None: nothing,
        as far as is known."""
        if not low and not self._may_have_others:
            return None
        served = Catalogue(self._aliases, tuple(each.status for each in low or self._links))
        return what_to_claim(
            self._holdings.shards(),
            self._room,
            low=bool(low),
            may_send=may_send,
            serving=served.serving(),
            servable=self.catalogue().serving(),
        )
