from __future__ import annotations

from pathlib import Path

import pytest

from batchmill.app.run.sources import check_readable, shown_input
from batchmill.app.run.targets import check_writable
from batchmill.errors import UserError


@pytest.mark.parametrize("name", ["out.csv.gz", "out.jsonl.ZST", "o.bz2", "o.zip"])
def test_results_are_not_written_unpacked_under_a_name_of_packed_ones(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(UserError, match="Results are not packed"):
        check_writable(str(tmp_path / name))


def test_a_name_that_is_too_long_is_found_before_anything_is_sent(tmp_path: Path) -> None:
    check_writable(str(tmp_path / ("a" * 235)))
    with pytest.raises(UserError, match="name is too long"):
        check_writable(str(tmp_path / ("a" * 237)))


def test_an_input_that_is_packed_otherwise_than_by_gzip_is_refused(tmp_path: Path) -> None:
    for name in ("in.jsonl.gz", "in.jsonl.zst"):
        (tmp_path / name).write_bytes(b"x")
    check_readable(str(tmp_path / "in.jsonl.gz"))
    with pytest.raises(UserError, match="unpack it first"):
        check_readable(str(tmp_path / "in.jsonl.zst"))


def test_standard_input_is_called_by_its_name() -> None:
    assert shown_input("-") == "standard input"
    assert shown_input("https://me:pass@host/in.jsonl?key=1") == "https://host/in.jsonl"
