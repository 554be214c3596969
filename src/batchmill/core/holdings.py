"""What a worker holds: its leases, and how each one's runner hears what renew answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from batchmill.core.work import OpenShard
from batchmill.model import Answer, JobId, Kind, Lease, Verdict


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """One lease in hand; `shard` where it is a shard."""

    lease: Lease
    tell: Callable[[Answer], None]
    shard: OpenShard | None = None


class Holdings:
    """The leases of one worker. `leases` is replaced as a whole, so that the heart's thread
    always reads a complete tuple."""

    def __init__(self) -> None:
        self._held: dict[tuple[JobId, Kind, int], Held] = {}
        self.leases: tuple[Lease, ...] = ()

    def hold(self, held: Held) -> None:
        """From now on renew asks for this lease. An older one of the same row is gone."""
        before = self._held.get(held.lease.key)
        if before is not None:
            before.tell(Answer(Verdict.GONE))
        self._held[held.lease.key] = held
        self._publish()

    def drop(self, lease: Lease) -> None:
        """And no longer; a newer lease of the same row stays."""
        held = self._held.get(lease.key)
        if held is not None and held.lease == lease:
            del self._held[lease.key]
            self._publish()

    def tell(self, lease: Lease, answer: Answer) -> None:
        """Pass an answer to the runner of this very lease, if it still runs."""
        held = self._held.get(lease.key)
        if held is not None and held.lease == lease:
            held.tell(answer)

    def tell_all_gone(self) -> int:
        """The leases may be somebody else's: throw everything away. How many there were."""
        held = tuple(self._held.values())
        for each in held:
            each.tell(Answer(Verdict.GONE))
        return len(held)

    def shards(self) -> list[OpenShard]:
        """The shards being run."""
        return [held.shard for held in self._held.values() if held.shard is not None]

    def _publish(self) -> None:
        self.leases = tuple(held.lease for held in self._held.values())
