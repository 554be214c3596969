from __future__ import annotations

from pathlib import Path

import pytest

from batchmill.app.run.statedir import held
from batchmill.app.run.wanted import Wanted
from batchmill.config import load
from batchmill.errors import UserError


def wanted(state: Path) -> Wanted:
    return Wanted("in.jsonl", "out.jsonl", load({}, {}), state=state)


@pytest.mark.parametrize("name", ["input", "upload", "blobs/photo.jpg", "notes.txt"])
def test_a_directory_with_other_files_is_refused_and_left_as_it_was(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="other files in it"), held(wanted(tmp_path)):
        pass
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_run_left_before_its_mark_and_after_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    for name in ("serve.lock", ".writable"):
        (tmp_path / name).touch()
    with held(wanted(tmp_path)) as state:
        (tmp_path / "input").write_text("a copy")
    with held(wanted(tmp_path)) as state:
        state.remove()
    assert not tmp_path.exists()
