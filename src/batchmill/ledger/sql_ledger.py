"""`SqlLedger`: the `Ledger` port over SQL. Each method is one transaction of one noun's module."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from batchmill.assembly import Assembly, AssemblyId, Piece, PieceId
from batchmill.clock import Clock
from batchmill.deliveries import (
    Delivery,
    DeliveryId,
    DeliveryLease,
    DeliveryPage,
    DeliveryQuery,
    DeliveryState,
    Tried,
    WebhookEndpoint,
)
from batchmill.fleet import Beat, EngineStatus, Timing, Worker
from batchmill.ledger import (
    admission,
    assemblies,
    children,
    chores,
    claims,
    deliveries,
    endings,
    files,
    fleet,
    jobs,
    keys,
    leases,
    plans,
    publish,
    results,
    sweep,
)
from batchmill.ledger.opening import open_database, upgrade_database
from batchmill.ledger.store import Rules, Store, Transaction
from batchmill.model import (
    ApiKey,
    BlobName,
    File,
    FileId,
    Job,
    JobId,
    JobInput,
    JobState,
    KeyId,
    Kind,
    Lease,
    LineError,
    Owner,
    Part,
    Segment,
    ShardLease,
    Stream,
    TenantId,
)
from batchmill.once import Once
from batchmill.ports import (
    Plan,
    Renewal,
    Want,
)
from batchmill.queries import FileQuery, JobQuery, Page
from batchmill.quotas import Quotas, TenantQuota
from batchmill.results import Choice, Kept, KeptShard, PublishedPart, ShardResults

THIRTY_DAYS = 30 * 86_400.0


class SqlLedger:
    """The ledger in one SQL database. Use one per event loop; any number may share a database.

    `Timing` must be the same for all that share one. Made by `open`; whoever opened it calls
    `close_connections`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    async def open(
        cls,
        database: str | Path,
        *,
        clock: Clock,
        timing: Timing | None = None,
        result_retention_seconds: float = THIRTY_DAYS,
        webhooks: Sequence[WebhookEndpoint] = (),
        quotas: Quotas | None = None,
    ) -> SqlLedger:
        """Open a database by path or URL. SQLite is made or brought up to date if needed.

        `result_retention_seconds` 0 keeps result files for ever; `webhooks` are told of every
        job's end; `quotas` must be the same for all that share the database.

        Raises `ConfigError` where this database can never work (an older or newer version, a
        network file system, an unknown kind) and `LedgerUnavailable` where it cannot be used now.
        """
        opened = await open_database(database)
        rules = Rules(timing or Timing(), result_retention_seconds, webhooks, quotas or Quotas())
        return cls(Store(opened, clock, rules))

    @staticmethod
    async def upgrade(database: str | Path) -> str:
        """Bring a database to the newest version; that version. Raises as `open` does."""
        return await upgrade_database(database)

    async def listen(self, rung: Callable[[], None]) -> None:
        await self._store.listen(rung)

    async def close_connections(self) -> None:
        await self._store.close()

    async def now(self) -> float:
        return await self._store.read(_wall)

    # files

    async def add_file(self, file: File) -> File:
        return await self._store.write(lambda tx: files.add(tx, file))

    async def file(self, tenant: TenantId, file: FileId) -> File | None:
        return await self._store.read(lambda tx: files.find(tx, tenant, file))

    async def files(self, tenant: TenantId, query: FileQuery) -> Page[File]:
        return await self._store.read(lambda tx: files.page(tx, tenant, query))

    async def delete_file(self, tenant: TenantId, file: FileId) -> bool:
        return await self._store.write(lambda tx: files.delete(tx, tenant, file))

    async def segments(self, job: JobId, stream: Stream) -> tuple[Segment, ...]:
        return await self._store.read(lambda tx: files.segments(tx, job, stream))

    async def parts_since(self, job: JobId, sequence: int, limit: int) -> tuple[PublishedPart, ...]:
        return await self._store.read(lambda tx: results.parts_since(tx, job, sequence, limit))

    async def shard_results(self, job: JobId, ns: Sequence[int]) -> tuple[ShardResults, ...]:
        return await self._store.read(lambda tx: results.shard_results(tx, job, ns))

    async def create_child(self, child: Job, choice: Choice) -> Job:
        return await self._store.write(lambda tx: children.create_child(tx, child, choice))

    async def choice_of(self, job: JobId) -> Choice:
        return await self._store.read(lambda tx: children.choice_of(tx, job))

    async def kept_shards(self, job: JobId) -> int:
        return await self._store.read(lambda tx: children.kept_shards(tx, job))

    async def keep(self, lease: Lease, shards: Sequence[KeptShard]) -> None:
        await self._store.write(lambda tx: children.keep(tx, lease, shards))

    async def plan_child(self, lease: Lease, kept: Kept) -> Job:
        return await self._store.write(lambda tx: children.plan_child(tx, lease, kept))

    # jobs

    async def create_job(
        self, job: Job, inputs: Sequence[JobInput], inline: File | None, once: Once | None = None
    ) -> Job:
        return await self._store.write(lambda tx: jobs.create(tx, job, inputs, inline, once))

    async def made_by(self, once: Once) -> Job | None:
        return await self._store.read(lambda tx: jobs.made_by(tx, once))

    async def job(self, tenant: TenantId, job: JobId) -> Job | None:
        return await self._store.read(lambda tx: jobs.find(tx, tenant, job))

    async def jobs(self, tenant: TenantId, query: JobQuery) -> Page[Job]:
        return await self._store.read(lambda tx: jobs.page(tx, tenant, query))

    async def cancel(self, tenant: TenantId, job: JobId) -> Job | None:
        return await self._store.write(lambda tx: jobs.cancel(tx, tenant, job))

    async def set_paused(self, tenant: TenantId, job: JobId, paused: bool) -> Job | None:  # noqa: FBT001 - the port's
        return await self._store.write(lambda tx: jobs.set_paused(tx, tenant, job, paused=paused))

    async def extend(self, tenant: TenantId, job: JobId, window: str, seconds: float) -> Job | None:
        return await self._store.write(lambda tx: jobs.extend(tx, tenant, job, window, seconds))

    async def delete_job(self, tenant: TenantId, job: JobId) -> bool:
        return await self._store.write(lambda tx: jobs.hide(tx, tenant, job))

    async def quota(self, tenant: TenantId) -> TenantQuota:
        return await self._store.read(lambda tx: admission.quota_of(tx, tenant))

    async def expire_jobs(self) -> int:
        return await self._store.write(endings.expire)

    # leases

    async def claim_shards(self, owner: Owner, want: Want) -> tuple[ShardLease, ...]:
        lost: list[Lease] = []
        return await self._store.write(lambda tx: claims.claim(tx, owner, want, lost))

    async def claim_chore(
        self, owner: Owner, kinds: Sequence[Kind]
    ) -> tuple[Lease, Job | None] | None:
        lost: list[Lease] = []
        return await self._store.write(lambda tx: chores.claim(tx, owner, kinds, lost))

    async def job_inputs(self, job: JobId) -> tuple[JobInput, ...]:
        return await self._store.read(lambda tx: jobs.inputs(tx, job))

    async def renew(self, owner: Owner, held: Sequence[Lease], beat: Beat) -> Renewal:
        return await self._store.write(lambda tx: leases.renew(tx, owner, held, beat))

    async def release(
        self, leases_: Sequence[Lease], *, after: float = 0.0, wanted: str | None = None
    ) -> None:
        await self._store.write(lambda tx: leases.release(tx, leases_, after, wanted))

    async def note_alone(self, lease: Lease, line: int | None) -> bool:
        return await self._store.write(lambda tx: leases.note_alone(tx, lease, line))

    async def plan(self, lease: Lease, plan: Plan) -> Job:
        return await self._store.write(lambda tx: plans.plan(tx, lease, plan))

    async def refuse(self, lease: Lease, errors: Sequence[LineError], total: int) -> Job:
        return await self._store.write(lambda tx: plans.refuse(tx, lease, errors, total))

    async def commit(self, lease_parts: Sequence[tuple[Lease, Part]]) -> tuple[bool, ...]:
        return await self._store.write(lambda tx: publish.commit(tx, lease_parts))

    async def close(self, lease: Lease, segments: Sequence[Segment]) -> bool:
        return await self._store.write(lambda tx: publish.close(tx, lease, segments))

    async def finalize(
        self, lease: Lease, output: FileId, error: FileId, names: tuple[str, str]
    ) -> Job:
        ids = (output, error)
        return await self._store.write(lambda tx: publish.finalize(tx, lease, ids, names))

    async def done(self, lease: Lease, *, again_after: float | None = None) -> None:
        await self._store.write(lambda tx: chores.done(tx, lease, again_after))

    async def strike(self, lease: Lease, reason: str) -> bool:
        return await self._store.write(lambda tx: chores.strike(tx, lease, reason))

    async def fail_job(self, job: JobId, error: LineError) -> None:
        await self._store.write(lambda tx: endings.fail(tx, job, error))

    # webhooks

    async def claim_delivery(
        self,
        owner: Owner,
        *,
        not_receivers: Collection[str] = (),
        not_tenants: Collection[TenantId] = (),
    ) -> DeliveryLease | None:
        lost: list[Lease] = []
        return await self._store.write(
            lambda tx: deliveries.claim(tx, owner, not_receivers, not_tenants, lost)
        )

    async def next_delivery(self) -> float | None:
        return await self._store.read(deliveries.next_wait)

    async def note_try(self, lease: Lease, tried: Tried, again_after: float | None) -> Delivery:
        return await self._store.write(
            lambda tx: deliveries.note_try(tx, lease, tried, again_after)
        )

    async def delivery(self, tenant: TenantId, delivery: DeliveryId) -> Delivery | None:
        return await self._store.read(lambda tx: deliveries.find(tx, tenant, delivery))

    async def deliveries(self, tenant: TenantId, query: DeliveryQuery) -> DeliveryPage:
        return await self._store.read(lambda tx: deliveries.page(tx, tenant, query))

    async def redeliver(self, tenant: TenantId, delivery: DeliveryId) -> Delivery | None:
        return await self._store.write(lambda tx: deliveries.redeliver(tx, tenant, delivery))

    async def deliveries_by_state(self) -> Mapping[DeliveryState, int]:
        return await self._store.read(deliveries.by_state)

    async def prune_deliveries(self, ended_before: float) -> int:
        return await self._store.write(lambda tx: deliveries.prune(tx, ended_before))

    # blobs that nobody needs

    async def referenced(self, names: Sequence[BlobName]) -> frozenset[BlobName]:
        return await self._store.read(lambda tx: sweep.referenced(tx, names))

    async def scan_is_due(self, every_seconds: float) -> bool:
        return await self._store.write(lambda tx: sweep.scan_is_due(tx, every_seconds))

    async def part_blobs_to_drop(self, limit: int) -> tuple[BlobName, ...]:
        return await self._store.read(lambda tx: sweep.part_blobs_to_drop(tx, limit))

    async def dropped(self, names: Sequence[BlobName]) -> None:
        await self._store.write(lambda tx: sweep.dropped(tx, names))

    async def prune(self, job: JobId, most: int) -> tuple[BlobName, ...] | None:
        return await self._store.write(lambda tx: sweep.prune(tx, job, most))

    async def expire_files(self, uploads_before: float) -> tuple[BlobName, ...]:
        return await self._store.write(lambda tx: sweep.expire_files(tx, uploads_before))

    # files that come in pieces

    async def add_assembly(self, assembly: Assembly) -> Assembly:
        return await self._store.write(lambda tx: assemblies.add(tx, assembly))

    async def assembly(self, tenant: TenantId, assembly: AssemblyId) -> Assembly | None:
        return await self._store.read(lambda tx: assemblies.find(tx, tenant, assembly))

    async def add_piece(self, piece: Piece) -> Piece:
        return await self._store.write(lambda tx: assemblies.add_piece(tx, piece))

    async def pieces(self, assembly: AssemblyId) -> tuple[Piece, ...]:
        return await self._store.read(lambda tx: assemblies.pieces(tx, assembly))

    async def complete_assembly(
        self, assembly: AssemblyId, pieces: Sequence[PieceId], file: File
    ) -> Assembly:
        return await self._store.write(lambda tx: assemblies.complete(tx, assembly, pieces, file))

    async def cancel_assembly(self, assembly: AssemblyId) -> Assembly:
        return await self._store.write(lambda tx: assemblies.cancel(tx, assembly))

    async def forget_pieces(self, assembly: AssemblyId) -> tuple[BlobName, ...]:
        return await self._store.write(lambda tx: assemblies.forget_pieces(tx, assembly))

    async def expire_assemblies(self) -> tuple[BlobName, ...]:
        return await self._store.write(assemblies.expire)

    # the fleet

    async def register(self, worker: str, incarnation: str, host: str, pid: int) -> Owner:
        return await self._store.write(
            lambda tx: fleet.register(tx, worker, incarnation, host, pid)
        )

    async def release_worker(self, worker: str, *, struck: bool) -> int:
        return await self._store.write(lambda tx: fleet.release_worker(tx, worker, struck=struck))

    async def leave(self, owner: Owner) -> None:
        await self._store.write(lambda tx: fleet.leave(tx, owner))

    async def forget_workers(self) -> None:
        await self._store.write(fleet.forget)

    async def workers(self) -> tuple[Worker, ...]:
        return await self._store.read(fleet.workers)

    async def engines(self) -> tuple[EngineStatus, ...]:
        return await self._store.read(fleet.engines)

    async def models_elsewhere(self, owner: Owner) -> frozenset[str]:
        return await self._store.read(lambda tx: fleet.models_elsewhere(tx, owner))

    async def open_lines(self) -> int:
        return await self._store.read(fleet.open_lines)

    async def jobs_by_state(self) -> Mapping[JobState, int]:
        return await self._store.read(fleet.jobs_by_state)

    # keys

    async def create_key(self, tenant: TenantId, digest: str, hint: str) -> ApiKey:
        return await self._store.write(lambda tx: keys.create(tx, tenant, digest, hint))

    async def keys(self) -> tuple[ApiKey, ...]:
        return await self._store.read(keys.every)

    async def revoke_key(self, key: KeyId) -> bool:
        return await self._store.write(lambda tx: keys.revoke(tx, key))

    async def key_by_digest(self, digest: str) -> ApiKey | None:
        return await self._store.read(lambda tx: keys.by_digest(tx, digest))

    async def secret(self, purpose: str) -> bytes:
        found = await self._store.read(lambda tx: keys.find_secret(tx, purpose))
        if found is not None:
            return found
        return await self._store.write(lambda tx: keys.make_secret(tx, purpose))


def _wall(tx: Transaction) -> float:
    return tx.at.wall
