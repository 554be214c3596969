"""Files that are sent in pieces: announced, received, put together, given up."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from batchmill.assembly import (
    LASTS_SECONDS,
    MAX_PIECE_BYTES,
    MAX_PIECES,
    Assembly,
    AssemblyId,
    AssemblyState,
    Piece,
    PieceId,
)
from batchmill.errors import Conflict, StateConflict
from batchmill.ledger import files
from batchmill.ledger.rows import text, to_assembly, to_piece
from batchmill.ledger.schema import assembly, assembly_piece
from batchmill.ledger.store import Transaction
from batchmill.model import BlobName, File, TenantId

GRACE_SECONDS = 600.0
"""A completion that began in time may take that long."""
KEPT_SECONDS = 7 * 86_400.0
"""How long one that has ended is shown."""
AT_ONCE = 500

_PENDING = assembly.c.state == sa.literal_column("'pending'")
_ENDED = assembly.c.state != sa.literal_column("'pending'")


def add(tx: Transaction, new: Assembly) -> Assembly:
    """Record a new one; asked again with the same id, nothing changes."""
    row = {
        "id": new.id,
        "tenant": new.tenant,
        "filename": new.filename,
        "purpose": new.purpose,
        "mimetype": new.mimetype,
        "size_bytes": new.size_bytes,
        "lasts_seconds": new.lasts_seconds,
        "created_at": tx.at.wall,
        "expires_at": tx.at.wall + LASTS_SECONDS,
    }
    tx.run(tx.insert_new(assembly), row)
    return _present(tx, new.id)


def find(tx: Transaction, tenant: TenantId, id: AssemblyId) -> Assembly | None:
    """That assembly as its tenant sees it."""
    row = tx.one(sa.select(assembly).where(assembly.c.id == id, assembly.c.tenant == tenant))
    return None if row is None else to_assembly(row, tx.at.wall)


def add_piece(tx: Transaction, new: Piece) -> Piece:
    """Record a piece, where its assembly still takes any; asked again, nothing changes."""
    row = {
        "id": new.id,
        "assembly_id": new.assembly,
        "blob": new.blob,
        "size_bytes": new.size_bytes,
        "created_at": tx.at.wall,
    }
    if tx.run(tx.insert_new(assembly_piece), row):
        _count_piece(tx, new)
    found = tx.one(sa.select(assembly_piece).where(assembly_piece.c.id == new.id))
    assert found is not None
    return to_piece(found)


def pieces(tx: Transaction, id: AssemblyId) -> tuple[Piece, ...]:
    """Its pieces, in the order they came."""
    mine = sa.select(assembly_piece).where(assembly_piece.c.assembly_id == id)
    return tuple(to_piece(row) for row in tx.all(mine.order_by(assembly_piece.c.created_at)))


def complete(tx: Transaction, id: AssemblyId, pieces: Sequence[PieceId], file: File) -> Assembly:
    """Complete a pending assembly with its file; the assembly as it then is."""
    mine = sa.update(assembly).where(assembly.c.id == id, _PENDING)
    done = {"state": "completed", "file_id": file.id, "piece_ids": text(tuple(pieces))}
    if tx.run(mine.values(done)):
        files.add(tx, file)
    return _present(tx, id)


def cancel(tx: Transaction, id: AssemblyId) -> Assembly:
    """Cancel a pending assembly; the assembly as it then is."""
    mine = sa.update(assembly).where(assembly.c.id == id, _PENDING)
    tx.run(mine.where(assembly.c.expires_at > tx.at.wall).values(state="cancelled"))
    return _present(tx, id)


def forget_pieces(tx: Transaction, id: AssemblyId) -> tuple[BlobName, ...]:
    """Forget the pieces of one that has ended."""
    ended = sa.exists().where(assembly.c.id == assembly_piece.c.assembly_id, _ENDED)
    gone = sa.delete(assembly_piece).where(assembly_piece.c.assembly_id == id, ended)
    return tuple(row.blob for row in tx.all(gone.returning(assembly_piece.c.blob)))


def expire(tx: Transaction) -> tuple[BlobName, ...]:
    """Expire what was left pending, and forget some pieces of what has ended, and in the end
    the assembly itself."""
    over = sa.select(assembly.c.id).where(
        _PENDING, assembly.c.expires_at <= tx.at.wall - GRACE_SECONDS
    )
    ids = [row.id for row in tx.all(over.limit(AT_ONCE).with_for_update(skip_locked=True))]
    tx.run(sa.update(assembly).where(assembly.c.id.in_(ids)).values(state="expired"))
    pending = sa.select(assembly.c.id).where(_PENDING)
    of_ended = assembly_piece.c.assembly_id.not_in(pending)
    some = sa.select(assembly_piece.c.id, assembly_piece.c.blob).where(of_ended)
    rows = tx.all(some.limit(AT_ONCE).with_for_update(skip_locked=True))
    tx.run(sa.delete(assembly_piece).where(assembly_piece.c.id.in_([row.id for row in rows])))
    old = sa.delete(assembly).where(_ENDED, assembly.c.created_at <= tx.at.wall - KEPT_SECONDS)
    if not rows:
        tx.run(old)
    return tuple(row.blob for row in rows)


def _count_piece(tx: Transaction, new: Piece) -> None:
    """Count a piece in its assembly; pieces sent twice have their room, but not without end."""
    most_bytes = 2 * assembly.c.size_bytes + MAX_PIECE_BYTES
    counted = (
        sa.update(assembly)
        .where(
            assembly.c.id == new.assembly,
            _PENDING,
            assembly.c.expires_at > tx.at.wall,
            assembly.c.pieces < MAX_PIECES,
            assembly.c.received_bytes + new.size_bytes <= most_bytes,
        )
        .values(
            pieces=assembly.c.pieces + 1,
            received_bytes=assembly.c.received_bytes + new.size_bytes,
        )
    )
    if tx.run(counted):
        return
    found = _present(tx, new.assembly)
    if found.state is AssemblyState.PENDING:
        raise Conflict(
            f"The upload has received more than it can use: at most {MAX_PIECES:,} parts, and "
            "twice the bytes that it announced; cancel it and begin a new one.",
            state=found.state,
            code="too_many_parts",
        )
    raise Conflict(
        f"The upload is {found.state.value} and takes no more parts; begin a new one.",
        state=found.state,
    )


def _present(tx: Transaction, id: AssemblyId) -> Assembly:
    row = tx.one(sa.select(assembly).where(assembly.c.id == id))
    if row is None:
        raise StateConflict(f"there is no upload {id}")
    return to_assembly(row, tx.at.wall)
