from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from batchmill.app.run.conduct import conduct
from batchmill.app.run.tablewanted import TableWanted
from batchmill.app.run.wanted import Wanted
from batchmill.config import load
from batchmill.core.progress import Progress
from batchmill.errors import UserError
from batchmill.fleet import EngineStatus
from batchmill.model import Job
from batchmill.tables.rows import Format


class Unwatched:
    def said(self, line: str) -> None:
        return

    def looked(
        self, job: Job | None, progress: Progress | None, engines: tuple[EngineStatus, ...]
    ) -> None:
        return


def kept_state(folder: Path) -> Path:
    """What an earlier run left."""
    state = folder / "state"
    state.mkdir()
    for name in ("batchmill-run", "ledger.sqlite"):
        (state / name).write_text("kept")
    return state


@pytest.mark.parametrize(
    ("made", "says"), [((), "no input file"), (("in.jsonl", "out.jsonl"), "exists already")]
)
async def test_a_restart_that_cannot_begin_throws_nothing_away(
    tmp_path: Path, made: tuple[str, ...], says: str
) -> None:
    state = kept_state(tmp_path)
    for name in made:
        (tmp_path / name).write_text("{}")
    asked = Wanted(
        str(tmp_path / "in.jsonl"),
        str(tmp_path / "out.jsonl"),
        load({"engines": ("sim",)}, {}),
        state=state,
        restart=True,
    )
    with pytest.raises(UserError, match=says):
        await conduct(asked, Unwatched(), asyncio.Event())
    assert (state / "ledger.sqlite").read_text() == "kept"


async def test_a_restart_that_asks_for_a_column_which_is_not_there_throws_nothing_away(
    tmp_path: Path,
) -> None:
    state = kept_state(tmp_path)
    (tmp_path / "in.csv").write_text("text\nfine\n")
    asked = Wanted(
        str(tmp_path / "in.csv"),
        str(tmp_path / "out.csv"),
        load({"engines": ("sim",)}, {}),
        table=TableWanted("Sort: {{txet}}", Format.CSV, Format.CSV),
        state=state,
        restart=True,
    )
    with pytest.raises(UserError, match="txet"):
        await conduct(asked, Unwatched(), asyncio.Event())
    assert (state / "ledger.sqlite").read_text() == "kept"
