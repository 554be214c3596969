"""What a worker claims next, decided from what it holds. Pure but for what it remembers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from batchmill.core.gate import Route
from batchmill.core.holdings import Holdings
from batchmill.core.links import Link
from batchmill.core.linkset import Links
from batchmill.core.models import WILDCARD, Catalogue, is_usable
from batchmill.core.pool import Pool
from batchmill.core.work import OpenShard
from batchmill.fleet import EngineStatus
from batchmill.model import JobId
from batchmill.ports import Want

SHARDS_AT_ONCE = 4
LOW_WINDOWS = 2
"""The next shard is opened before the last one runs dry: while so many windows of lines wait."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many shards a worker may hold: open ones (also by the bytes of their input, one
    always), and ones it only settles. More than it needs to keep its engines busy it opens up to
    `ahead_*` only, so that there is room for other jobs, and for more of the same before these
    are done. `spare_*` come on top for jobs of which nothing is here: what waits here may have to
    wait for long. Whatever fills the room, each engine may have up to `own_*` for itself: what
    waits for a slow or dead engine is no reason to let another idle."""

    open_shards: int = 64
    open_bytes: int = 32 * 1024 * 1024
    ahead_shards: int = 16
    ahead_bytes: int = 24 * 1024 * 1024
    spare_shards: int = 8
    spare_bytes: int = 8 * 1024 * 1024
    own_shards: int = 4
    own_bytes: int = 8 * 1024 * 1024
    settling_shards: int = 32


def run_low(links: Iterable[Link], lines: Mapping[str, int], window: int) -> list[Link]:
    """The engines for whose models too few lines wait. What waits for one engine is no reason to
    let another run dry."""
    return [
        link
        for link in links
        if sum(n for model, n in lines.items() if link.serves(model)) < LOW_WINDOWS * window
    ]


def worth_more(
    shards: Sequence[OpenShard], room: Room, gain: Container[JobId], workers: int
) -> frozenset[JobId]:
    """The jobs of which more shards should be open than keep the engines busy, of those that
    `gain` from it. Where several workers share the work none opens more than half of its part of
    what a job has left."""
    running = _running(shards)
    size = sum(shard.lease.shard.length for shard in running)
    if len(running) >= room.ahead_shards or size >= room.ahead_bytes:
        return frozenset()
    held: Counter[JobId] = Counter()
    left: dict[JobId, int] = {}
    for shard in running:
        job = shard.job
        held[job.id] += shard.lease.shard.lines
        left[job.id] = min(left.get(job.id, job.left), job.left)
    return frozenset(
        job
        for job, lines in held.items()
        if job in gain and (workers == 1 or 2 * workers * lines < left[job])
    )


def surplus(
    shards: Sequence[OpenShard], ready_lines: int, low_lines: int, workers: int, *, work: bool
) -> OpenShard | None:
    """A shard to release, for a worker that finds nothing to claim: where several share the work
    and there is none (`work`), one that has more than it needs soon gives of it. Not a job's only
    shard here: it would be claimed again at once."""
    if workers == 1 or work:
        return None
    running = [shard for shard in shards if shard.opened and shard.sends and not shard.serial]
    held = Counter(shard.job.id for shard in running)
    several = [shard for shard in running if held[shard.job.id] > 1]
    most = max(several, key=_unsent, default=None)
    if most is None or not 2 * _unsent(most) > most.lease.shard.lines:
        return None
    return most if ready_lines - _unsent(most) >= low_lines else None


def _unsent(shard: OpenShard) -> int:
    return shard.waiting - shard.flights


def _at_once(shards: int, size: int, most_shards: int, most_bytes: int) -> int:
    """How many more shards to take at once where so many of so many bytes are held, and at most
    so many may be."""
    if not shards:
        return SHARDS_AT_ONCE
    left = (most_bytes - size) * shards // max(1, size)
    return max(1, min(SHARDS_AT_ONCE, left, most_shards - shards))


def is_full(running: Sequence[OpenShard], room: Room, *, spare: bool = False) -> bool:
    """Whether no further shard is to be opened, or with the `spare` room not even then."""
    shards = room.open_shards + (room.spare_shards if spare else 0)
    size = room.open_bytes + (room.spare_bytes if spare else 0)
    return bool(running) and (
        len(running) >= shards or sum(shard.lease.shard.length for shard in running) >= size
    )


def has_own_room(
    link: Link, running: Sequence[OpenShard], room: Room, catalogue: Catalogue
) -> bool:
    """Whether less is here for that engine than may be, however full the room is."""
    its = [s for s in running if link.serves(catalogue.served_name(s.job.model or ""))]
    size = sum(shard.lease.shard.length for shard in its)
    return len(its) < room.own_shards and size < room.own_bytes


def what_to_claim(
    shards: Sequence[OpenShard],
    room: Room,
    *,
    low: bool,
    may_send: bool,
    serving: Container[str] | None,
    servable: Container[str] | None = None,
    more_of: frozenset[JobId] = frozenset(),
    own: bool = False,
) -> Want | None:
    """More lines when few are left for the engines that serve these models; else only jobs that
    have none of their lines here, so that a small job does not wait for a big one, those in
    `more_of`, and shards whose owner died. `own`: these engines have room of their own. None:
    nothing at all."""
    running = _running(shards)
    size = sum(shard.lease.shard.length for shard in running)
    if is_full(running, room) and not own:
        low, more_of = False, frozenset()
    has_room = own or not is_full(running, room, spare=True)
    runs = has_room and may_send and serving != frozenset()
    to_settle = room.settling_shards - (len(shards) - len(running))
    if not runs and to_settle <= 0:
        return None
    limit = 1
    if low:
        limit = _at_once(len(running), size, room.open_shards, room.open_bytes)
    elif more_of:
        limit = _at_once(len(running), size, room.ahead_shards, room.ahead_bytes)
    return Want(
        limit=limit,
        serving=serving,
        not_jobs=frozenset() if low else frozenset(shard.job.id for shard in running) - more_of,
        running=runs,
        settling=to_settle > 0,
        settle_limit=to_settle,
        servable=servable,
    )


def _running(shards: Sequence[OpenShard]) -> list[OpenShard]:
    return [shard for shard in shards if shard.lease.stop is None]


def _is_for(model: str | None, serving: Container[str] | None) -> bool:
    return model is None or serving is None or model in serving


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
        self._elsewhere: tuple[EngineStatus, ...] = ()
        """The engines that only other workers have."""
        self.workers = 1
        """How many share the work, this one included."""
        self.work = True
        """There was something to be claimed, by whoever can serve it, at the last beat."""
        self._may_have_work = frozenset(links)
        """The engines for which there may be work that is not claimed."""
        self._may_have_others = True
        """There may be jobs of which nothing is here."""
        self._may_have_more, self._wants_more = True, False
        """There may be more shards of jobs that gain from them; the last want asked for some."""
        self._dry: frozenset[JobId] = frozenset()
        """Jobs here of which there is nothing else to claim."""
        self._may_have_spare, self._was_full = True, False
        """There may be something for the spare room; the last want was for that."""
        self._own: frozenset[Link] = frozenset()
        """The engines whose own room the last want was for."""

    def catalogue(self) -> Catalogue:
        """What the engines serve, as they were last seen."""
        return Catalogue(self._aliases, self._links.statuses())

    def fleet(self) -> Catalogue:
        """What the engines of all workers serve: by this lines get the names that are sent."""
        return Catalogue(self._aliases, (*self._links.statuses(), *self._elsewhere))

    def serving(self, links: Iterable[Link]) -> Container[str] | None:
        """The names that may be asked of these engines now; None: any."""
        return self.fleet().serving(each.status for each in links)

    @property
    def has_wildcard(self) -> bool:
        """Whether one name stands for all that no engine serves."""
        return WILDCARD in self._aliases

    def hear(self, seen: Iterable[EngineStatus]) -> None:
        """Take in what was last seen of engines by whomever."""
        seen = tuple(seen)
        self._links.remember(seen)
        mine = {each.spec.name for each in self._links}
        self._elsewhere = tuple(engine for engine in seen if engine.name not in mine)

    def rename(self, aliases: Mapping[str, str]) -> None:
        """Read lines with these aliases from now on."""
        self._aliases = aliases

    def look_again(self) -> None:
        """There may be work for every engine."""
        self._may_have_work, self._may_have_others = frozenset(self._links), True
        self._may_have_more, self._dry = True, frozenset()
        self._may_have_spare = True

    def found_none(self, low: frozenset[Link], want: Want) -> bool:
        """There is no work of the kind that was wanted, until `look_again` says otherwise. Whether
        that is to say that there is none at all for the engines that run low."""
        if self._own:
            self._may_have_work -= self._own
            return False
        if self._was_full:
            self._may_have_spare = False
        if self._was_full or not (want.running and want.settling):
            return False
        self._may_have_work -= low
        if not low:
            self._may_have_others = False
            self._may_have_more = self._may_have_more and not self._wants_more
        self._dry |= {
            shard.job.id
            for shard in self._holdings.shards()
            if shard.job.id not in want.not_jobs
            and (not low or _is_for(shard.job.model, want.serving))
        }
        return True

    def low(self) -> frozenset[Link]:
        """The engines that run low and for which there may be work. Asked with many a line that
        is sent, hence the cheap question first."""
        up = [each for each in self._may_have_work if is_usable(each.status)]
        if not up or not run_low(up, self._pool.ready_lines(), self._links.window):
            return frozenset()
        return frozenset(run_low(up, self.waiting_lines(), self._links.window))

    def is_low(self, job: JobId, lines: int, now: float) -> bool:
        """Few lines of the job wait here that may be sent, of which `lines` are ready, and there
        may be more. Others may have enough, but it would lose its turns for want of a line. Asked
        with many a line that is sent, hence the cheap questions first."""
        window = self._links.window
        if lines >= window or job in self._dry:
            return False
        waiting = self._jobs_waiting()[job]
        return waiting < window or waiting - self._held(now)[job] < window

    def _jobs_waiting(self) -> Counter[JobId]:
        """How many lines of each job wait here, those of shards that are still read included."""
        waiting = self._pool.lines_by_job()
        for shard in self._holdings.shards():
            if not shard.opened:
                waiting[shard.job.id] += shard.lease.shard.lines
        return waiting

    def waiting_lines(self) -> Counter[str]:
        """How many lines of each model wait here, those of shards that are still read included."""
        waiting = self._pool.ready_lines()
        catalogue = self.fleet()
        for shard in self._holdings.shards():
            if not shard.opened:
                waiting[catalogue.served_name(shard.job.model or "")] += shard.lease.shard.lines
        return waiting

    def want(self, low: frozenset[Link], now: float, *, may_send: bool) -> Want | None:
        """What to claim for the engines that run low, or where none does, for all; None: nothing,
        as far as is known. `now`: seconds of `Clock.boot`."""
        shards = self._holdings.shards()
        more_of = frozenset() if low else self._more_of(shards, now)
        if not low and not self._may_have_others and not more_of:
            return None
        running, fleet = _running(shards), self.fleet()
        is_without_room = is_full(running, self._room)
        self._own = frozenset(
            link
            for link in (low if is_without_room else ())
            if has_own_room(link, running, self._room, fleet)
        )
        self._was_full = is_without_room and not self._own
        if self._was_full and not self._may_have_spare:
            return None
        asked = self._own or low or self._links
        return what_to_claim(
            shards,
            self._room,
            low=bool(low),
            may_send=may_send,
            serving=self.serving(asked),
            servable=self.serving(self._links),
            more_of=more_of,
            own=bool(self._own),
        )

    def surplus(self) -> OpenShard | None:
        """A shard to release for the sake of other workers, if there is one."""
        ready, low_lines = self._pool.ready_lines().total(), LOW_WINDOWS * self._links.window
        shards = self._holdings.shards()
        return surplus(shards, ready, low_lines, self.workers, work=self.work)

    def needed(self) -> list[OpenShard]:
        """The shards that it is about to release and should not: calls are still out for them, and
        the engines for the rest of their lines run low."""
        leaving = [s for s in self._holdings.shards() if s.leaves and s.is_leaving and s.flights]
        if not leaving:
            return []
        up = [each for each in self._links if is_usable(each.status)]
        low = run_low(up, self.waiting_lines(), self._links.window)
        return [s for s in leaving if any(e.serves(m) for e in low for m in s.models_left())]

    def _more_of(self, shards: Sequence[OpenShard], now: float) -> frozenset[JobId]:
        """The jobs here of which more shards are wanted: they gain from them, or run low while
        others do not."""
        spread, waiting = self._pool.spread, self._jobs_waiting()
        spread.keep({shard.job.id for shard in shards})
        low = frozenset(
            shard.job.id
            for shard in shards
            if shard.job.id not in self._dry and waiting[shard.job.id] < self._links.window
        )
        if not self._may_have_more:
            return low
        spreads = {job for job, lines in waiting.items() if spread.gains(job, lines)}
        gain = worth_more(
            shards, self._room, spreads | self._held_up(shards, waiting, now), self.workers
        )
        self._wants_more = bool(gain)
        return low | gain

    def _held_up(
        self, shards: Sequence[OpenShard], waiting: Mapping[JobId, int], now: float
    ) -> set[JobId]:
        """The jobs with lines of several models of which few wait here that may be sent: the rest
        waits for a model's limit or fault, which is no reason for other models to wait."""
        names: dict[JobId, set[str]] = {}
        for shard in shards:
            names.setdefault(shard.job.id, set()).update(shard.names.values())
        held = self._held(now)
        return {
            job
            for job, its in names.items()
            if len(its) > 1 and waiting[job] - held[job] < self._links.window
        }

    def _held(self, now: float) -> Counter[JobId]:
        """How many lines of each job wait that no engine here may have now."""

        def is_held(route: Route) -> bool:
            return not any(
                each.serves(route[1]) and each.gate.admits(route, now) for each in self._links
            )

        return self._pool.lines_by_job(is_held)
