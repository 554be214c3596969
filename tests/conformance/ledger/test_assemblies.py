"""Files that come in pieces: the ledger's steps."""

from __future__ import annotations

import asyncio

import pytest

from batchmill.assembly import (
    LASTS_SECONDS,
    MAX_PIECE_BYTES,
    Assembly,
    AssemblyId,
    AssemblyState,
    Piece,
    PieceId,
)
from batchmill.clock import new_id
from batchmill.errors import Conflict
from batchmill.ledger.assemblies import AT_ONCE, GRACE_SECONDS
from batchmill.model import DEFAULT_TENANT, BlobName, File, FileId, FileSource, TenantId
from batchmill.queries import FileQuery
from tests.conformance.ledger.world import World


async def announce(world: World, size_bytes: int = 10) -> Assembly:
    new = Assembly(AssemblyId(new_id()), DEFAULT_TENANT, "in.jsonl", "batch", size_bytes)
    return await world.ledger.add_assembly(new)


def piece_of(assembly: Assembly, size_bytes: int = 1) -> Piece:
    new = PieceId(new_id())
    return Piece(new, assembly.id, BlobName(f"uploads/{assembly.id}/{new}"), size_bytes)


def file_of(assembly: Assembly) -> File:
    new = FileId(new_id())
    blob = BlobName(f"inputs/{new}")
    source = FileSource.UPLOAD
    return File(new, assembly.tenant, "in.jsonl", "batch", source, 10, 0.0, blob=blob)


async def test_of_many_completions_and_cancels_at_once_one_counts(world: World) -> None:
    assembly = await announce(world)
    piece = await world.ledger.add_piece(piece_of(assembly))
    ended = await asyncio.gather(
        *[
            world.ledger.complete_assembly(assembly.id, [piece.id], file_of(assembly))
            for _ in range(8)
        ],
        *[world.ledger.cancel_assembly(assembly.id) for _ in range(8)],
    )
    assert all(each == ended[0] for each in ended[1:])
    files = await world.ledger.files(DEFAULT_TENANT, FileQuery())
    completed = ended[0].state is AssemblyState.COMPLETED
    assert [file.id for file in files.items] == ([ended[0].file] if completed else [])


async def test_an_assembly_takes_no_pieces_beyond_twice_its_size(world: World) -> None:
    assembly = await announce(world, size_bytes=5)
    await world.ledger.add_piece(piece_of(assembly, MAX_PIECE_BYTES))
    full = await world.ledger.add_piece(piece_of(assembly, 10))
    for _ in range(2):
        with pytest.raises(Conflict):
            await world.ledger.add_piece(piece_of(assembly, 1))
    assert (await world.ledger.add_piece(full)) == full, "asked again, it is the same"
    assert len(await world.ledger.pieces(assembly.id)) == 2


async def test_pieces_are_forgotten_once_the_assembly_has_ended(world: World) -> None:
    assembly, other = await announce(world), await announce(world)
    piece = await world.ledger.add_piece(piece_of(assembly))
    kept = await world.ledger.add_piece(piece_of(other))
    assert await world.ledger.forget_pieces(assembly.id) == ()
    await world.ledger.cancel_assembly(assembly.id)
    assert await world.ledger.forget_pieces(assembly.id) == (piece.blob,)
    assert await world.ledger.referenced([piece.blob, kept.blob]) == {kept.blob}


async def test_a_completion_that_began_in_time_may_end_after_the_hour(world: World) -> None:
    assembly = await announce(world)
    piece = await world.ledger.add_piece(piece_of(assembly))
    world.clock.advance(LASTS_SECONDS + GRACE_SECONDS - 1)
    assert await world.ledger.expire_assemblies() == ()
    done = await world.ledger.complete_assembly(assembly.id, [piece.id], file_of(assembly))
    assert done.state is AssemblyState.COMPLETED


async def test_housekeeping_forgets_every_piece_of_what_has_expired(world: World) -> None:
    assembly = await announce(world, size_bytes=10_000)
    added = [await world.ledger.add_piece(piece_of(assembly)) for _ in range(AT_ONCE + 1)]
    world.clock.advance(LASTS_SECONDS + GRACE_SECONDS)
    later = await announce(world)
    kept = await world.ledger.add_piece(piece_of(later))
    found: list[BlobName] = []
    while names := await world.ledger.expire_assemblies():
        found += names
    assert sorted(found) == sorted(piece.blob for piece in added)
    assert await world.ledger.pieces(later.id) == (kept,)
    late = await world.ledger.complete_assembly(assembly.id, [added[0].id], file_of(assembly))
    assert late.state is AssemblyState.EXPIRED


async def test_another_tenants_assembly_is_not_there(world: World) -> None:
    assembly = await announce(world)
    assert await world.ledger.assembly(TenantId("b"), assembly.id) is None
    assert await world.ledger.assembly(DEFAULT_TENANT, assembly.id) == assembly
