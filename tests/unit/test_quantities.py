from __future__ import annotations

from datetime import timedelta

import pytest

from batchmill.quantities import parse_duration, parse_size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30),
        ("10m", 600),
        ("2h", 7200),
        ("7d", 604_800),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1.5s", 1.5),
        (" 5s ", 5),
        (15, 15),
        (0.2, 0.2),
        ("90", 90),
        (0, 0),
    ],
)
def test_a_duration_is_read_as_written(written: object, seconds: float) -> None:
    assert parse_duration(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "written",
    ["", "soon", "10 minutes", "m", "-5s", "5s later", "1e3s", True, None, "9" * 30 + "d"],
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("96MB", 96_000_000),
        ("96 MB", 96_000_000),
        ("4MiB", 4 * 1024 * 1024),
        ("512kB", 512_000),
        ("1.5GB", 1_500_000_000),
        ("2TiB", 2 * 1024**4),
        ("10B", 10),
        ("10", 10),
        (4096, 4096),
    ],
)
def test_a_size_is_read_as_written(written: object, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize("written", ["", "big", "MB", "-1MB", "10 bananas", "1_000", False, None])
def test_what_is_no_size_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(written)
