"""Figures and moments in words."""

from __future__ import annotations

import pytest

from batchmill.cli import words
from batchmill.model import WaitingReason


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.size(512), "512 B"),
        (words.size(25_600), "25.6 kB"),
        (words.size(999_960), "1.0 MB"),
        (words.size(1_234_000_000), "1.2 GB"),
        (words.amount(999), "999"),
        (words.amount(25_600), "25.6k"),
        (words.number(1_234_567), "1,234,567"),
        (words.rate(0.54), "0.5"),
        (words.rate(3_412), "3.4k"),
        (words.duration(0), "0s"),
        (words.duration(0.26), "0.3s"),
        (words.duration(125), "2m 5s"),
        (words.duration(7_200), "2h"),
        (words.duration(12_000), "3h 20m"),
        (words.duration(371_000), "4d 7h"),
        (words.duration(None), "unknown"),
        (words.size(None), "unknown"),
        (words.percent(999, 1_000), "99%"),
        (words.percent(1_000, 1_000), "100%"),
        (words.percent(0, 0), ""),
        (words.plural(1, "line"), "1 line"),
        (words.plural(1_000, "line"), "1,000 lines"),
        (words.moment(0.0), "1970-01-01 00:00:00 UTC"),
    ],
)
def test_figures_are_written_as_people_write_them(said: str, expected: str) -> None:
    assert said == expected


def test_every_waiting_reason_has_words() -> None:
    assert set(words.REASONS) == {each.value for each in WaitingReason}


def test_a_text_of_somebodys_cannot_steer_a_terminal() -> None:
    assert words.printable("a\x1b[31mb\nc\x9bd") == "a\\x1b[31mb c\\x9bd"
