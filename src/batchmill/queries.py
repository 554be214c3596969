"""What is asked of a list, and a page of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from batchmill.model import FileId, JobId, JobState, KeyId

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FileQuery:
    """Which files to list, newest first unless `oldest_first`. Empty ones filter nothing."""

    purposes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    sample_types: frozenset[str] = frozenset()
    mimetypes: tuple[str, ...] = ()
    search: str | None = None
    after: FileId | None = None
    offset: int = 0
    limit: int = 100
    oldest_first: bool = False


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs to list, newest first unless `oldest_first`. Hidden jobs never match, and none
    that was created within the second `created_after`, where that is a whole one."""

    states: tuple[JobState, ...] = ()
    model: str | None = None
    agent_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_after: float | None = None
    key: KeyId | None = None
    after: JobId | None = None
    offset: int = 0
    limit: int = 100
    oldest_first: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list, and how many match in all."""

    items: tuple[T, ...]
    total: int
    has_more: bool
