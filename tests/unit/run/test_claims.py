from __future__ import annotations

from pathlib import Path

import pytest

from batchmill.app.run.claims import Claims, WouldReplace
from batchmill.app.run.targets import FileTarget


def taken(claims: Claims, place: Path, content: bytes) -> Path:
    """A file that has been noted and not renamed yet, as a kill leaves it."""
    whole = place.with_name("whole")
    whole.write_bytes(content)
    claims.take(str(place), whole)
    return whole


def test_a_file_is_known_again_before_and_after_it_has_its_name(tmp_path: Path) -> None:
    out, claims = tmp_path / "out", Claims(tmp_path, force=False)
    taken(claims, out, b"first").rename(out)
    claims.refuse_overwriting(str(out))
    taken(claims, out, b"the second")
    claims.refuse_overwriting(str(out))
    (tmp_path / "whole").rename(out)
    claims.refuse_overwriting(str(out))


def test_a_file_that_was_put_where_ours_was_to_be_is_not_ours(tmp_path: Path) -> None:
    out, claims = tmp_path / "out", Claims(tmp_path, force=False)
    taken(claims, out, b"ours")
    out.write_bytes(b"precious")
    with pytest.raises(WouldReplace):
        claims.refuse_overwriting(str(out))
    Claims(tmp_path, force=True).refuse_overwriting(str(out))


def test_a_file_that_appears_as_ours_is_written_is_not_replaced(tmp_path: Path) -> None:
    out, claims = tmp_path / "out", Claims(tmp_path, force=False)
    target = FileTarget(out, lambda whole: claims.take(str(out), whole))
    target.write(b"ours")
    out.write_bytes(b"precious")
    with pytest.raises(WouldReplace):
        target.finish()
    target.abort()
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
    assert out.read_bytes() == b"precious"


def test_it_is_the_same_file_through_a_link_and_under_a_name_that_is_no_text(
    tmp_path: Path,
) -> None:
    out, claims = tmp_path / "out-\udcff", Claims(tmp_path, force=False)
    (tmp_path / "link").symlink_to(out)
    taken(claims, tmp_path / "link", b"ours").rename(out)
    claims.refuse_overwriting(str(out))
    claims.refuse_overwriting(str(tmp_path / "link"))
