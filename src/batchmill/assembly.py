"""A file that is sent in pieces and put together at the end: OpenAI's *upload* and its *parts*.

The nouns, and what the ledger does with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType, Protocol

from batchmill.model import BlobName, File, FileId, TenantId

AssemblyId = NewType("AssemblyId", str)
PieceId = NewType("PieceId", str)

LASTS_SECONDS = 3600.0
"""How long an assembly takes pieces."""
MAX_PIECE_BYTES = 64 * 1024 * 1024
MAX_PIECES = 10_000


class AssemblyState(StrEnum):
    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Assembly:
    """A file to be, as it was announced. `file` and `pieces`, the ids in their order, are set
    once it is completed; `lasts_seconds` is how long that file is then kept, where it says so.
    """

    id: AssemblyId
    tenant: TenantId
    filename: str
    purpose: str
    size_bytes: int
    mimetype: str | None = None
    lasts_seconds: int | None = None
    state: AssemblyState = AssemblyState.PENDING
    created_at: float = 0.0
    expires_at: float = 0.0
    file: FileId | None = None
    pieces: tuple[PieceId, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of the file's bytes; its place is told when the assembly is completed."""

    id: PieceId
    assembly: AssemblyId
    blob: BlobName
    size_bytes: int
    created_at: float = 0.0


class Assemblies(Protocol):
    """The ledger's steps for files that come in pieces. Every method is one transaction."""

    async def add_assembly(self, assembly: Assembly) -> Assembly:
        """Record a new one; its times are set by the ledger."""

    async def assembly(self, tenant: TenantId, assembly: AssemblyId) -> Assembly | None:
        """That assembly of that tenant; a pending one whose time is over shows as expired."""

    async def add_piece(self, piece: Piece) -> Piece:
        """Record a piece whose blob is durable. Raises `Conflict` when the assembly takes no
        more: it has ended, or has pieces beyond reason."""

    async def pieces(self, assembly: AssemblyId) -> tuple[Piece, ...]:
        """Every piece, in the order they came."""

    async def complete_assembly(
        self, assembly: AssemblyId, pieces: Sequence[PieceId], file: File
    ) -> Assembly:
        """Record the file, whose blob is durable, and complete the assembly that is pending;
        one that has ended stays as it is. Returns it as it then is."""

    async def cancel_assembly(self, assembly: AssemblyId) -> Assembly:
        """Cancel it if it is pending; as it then is."""

    async def forget_pieces(self, assembly: AssemblyId) -> tuple[BlobName, ...]:
        """Forget the pieces of an assembly that has ended; returns the blobs that may go."""

    async def expire_assemblies(self) -> tuple[BlobName, ...]:
        """Expire what has been pending for too long, and forget some pieces of assemblies that
        have ended; returns the blobs that may go, none when all have."""
