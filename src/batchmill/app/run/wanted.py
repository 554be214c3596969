"""What one `batchmill run` is asked to do, and what of it must be the same when it goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import msgspec

from batchmill.app.run.tablewanted import TableWanted
from batchmill.config import Settings
from batchmill.core.submit import ENDPOINTS
from batchmill.errors import UserError
from batchmill.model import OnInvalid

STANDARD: Final = "-"
"""Standard input or output, where a path could stand."""
MOST_LINES: Final = 100_000_000
"""More than a file that one machine can work off; validation keeps 8 bytes of each."""
MOST_BYTES: Final = 1 << 50
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked. `input` and `output` are paths, URLs or `-`; `errors` is None where the
    failed lines go beside the output. `settings` name the engines and the aliases."""

    input: str
    output: str
    settings: Settings
    errors: str | None = None
    state: Path | None = None
    model: str | None = None
    endpoint: str | None = None
    on_invalid: OnInvalid = OnInvalid.FAIL
    restart: bool = False
    force: bool = False
    keep: bool = False
    accept_changes: bool = False
    table: TableWanted | None = None
    """What to ask of each row, where the input is a table."""

    def __post_init__(self) -> None:
        """Raises `UserError` for an endpoint that no engine would ever answer at."""
        if self.table is None and self.endpoint not in (None, *ENDPOINTS):
            known = ", ".join(ENDPOINTS)
            raise UserError(
                f"--endpoint {short(self.endpoint or '')!r} is none; there are {known}."
            )

    def settings_in(self, state: Path) -> Settings:
        """The settings with everything that is kept in this one directory, and without what only
        concerns a server: a job of one's own has no limits and waits for nobody."""
        return self.settings.model_copy(
            update={
                "data": state,
                "database_url": None,
                "storage_url": None,
                "webhooks": (),
                "tenants": {},
                "max_pending_lines": 0,
                "max_job_lines": max(self.settings.max_job_lines, MOST_LINES),
                "max_file_size": MOST_BYTES,
                "keep_uploads": timedelta(0),
                "keep_results": timedelta(0),
            }
        )


class Terms(msgspec.Struct, frozen=True):
    """What a run that goes on must find as it was: for people, by what they call it."""

    asked: dict[str, str]
    """What decides about the lines: with another of these it is another job."""
    engines: dict[str, str]
    """Who answers them: may change where the user says so."""

    @classmethod
    def of(cls, wanted: Wanted) -> Terms:
        """The terms of this run."""
        asked = {
            "--endpoint": wanted.endpoint or "",
            "--model": wanted.model or "",
            "--on-invalid": wanted.on_invalid.value,
            **(wanted.table.terms() if wanted.table else {}),
        }
        engines = {each.name: each.url for each in wanted.settings.engines}
        for alias, model in wanted.settings.models.items():
            engines[f"models.{alias}"] = model
        return cls({name: short(text) for name, text in asked.items()}, engines)

    def refuse_changes(self, now: Terms, state: Path, *, accepted: bool) -> None:
        """Raise `UserError` with everything that differs now and what to do about it."""
        asked = _changes(self.asked, now.asked)
        engines = _changes(self.engines, now.engines)
        if asked:
            raise UserError(
                f"This run was begun with other options: {'; '.join(asked)}. Give the same ones to "
                f"go on, or --restart to throw away what is done (in {state}) and begin anew."
            )
        if engines and not accepted:
            raise UserError(
                f"This run was begun with other engines: {'; '.join(engines)}. Give the same ones; "
                "or --accept-changes to go on with these and keep what is done; or --restart to "
                f"throw it away (in {state}) and begin anew."
            )


def short(text: str) -> str:
    """A text that fits a line of a message, and still differs where the whole does."""
    if len(text) <= _SHOWN:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[: _SHOWN - 12]}... ({digest[:8]})"


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [
        f"{name} was {before.get(name) or 'not given'} and is {now.get(name) or 'not given'}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name, "") != now.get(name, "")
    ]
