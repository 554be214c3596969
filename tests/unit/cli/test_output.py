"""Tables that fit, and progress in one line."""

from __future__ import annotations

import io
import json

import pytest

from batchmill.cli import output
from batchmill.cli.output import Column, Output, fitting
from batchmill.cli.progressbar import ProgressBar, Standing, counts, pace, trouble

COLUMNS = [
    Column[str]("id", lambda _: "x" * 36),
    Column[str]("state", lambda _: "running", rank=1),
    Column[str]("name", lambda _: "n" * 60, rank=2, flexible=True),
    Column[str]("age", lambda _: "3m", rank=3),
]


def kept(room: int) -> tuple[list[str], dict[str, int]]:
    widths = {"id": 36, "state": 7, "name": 60, "age": 3}
    return [each.head for each in fitting(COLUMNS, widths, room)], widths


def test_a_wide_terminal_shows_all_columns() -> None:
    assert kept(200) == (
        ["id", "state", "name", "age"],
        {"id": 36, "state": 7, "name": 60, "age": 3},
    )


def test_a_flexible_column_is_cut_before_any_goes() -> None:
    heads, widths = kept(80)
    assert heads == ["id", "state", "name", "age"]
    assert widths["name"] == 28


def test_columns_go_by_rank_and_the_id_stays_whole() -> None:
    assert kept(60)[0] == ["id", "state"]
    heads, widths = kept(20)
    assert heads == ["id"]
    assert widths["id"] == 36


def test_a_pipe_gets_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    Output().rows(["a", "b"], COLUMNS, lambda row: {"name": row, "text": "ü\n"})
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["a", "b"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [80, 200])
def test_a_terminal_gets_a_table_no_wider_than_it(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    Output().rows(["a"], COLUMNS, lambda _: {})
    lines = screen.getvalue().splitlines()
    assert lines[0].split() == ["id", "state", "name", "age"]
    assert all(len(line) <= columns for line in lines)
    assert ("..." in lines[1]) == (columns == 80)


STANDING = Standing(
    "running", 1_000, 100, 20, 8, 34.2, 1_250.0, 125.0, "it is paused", {"http_400": 19, "a": 1}
)


def test_a_standing_is_told_in_figures_and_words() -> None:
    assert counts(STANDING) == "120/1,000 12%"
    assert pace(STANDING) == "34 lines/s  1.2k tokens/s  2m 5s left"
    assert trouble(STANDING) == "waits: it is paused  20 failed (19 http_400, 1 a)"


def test_a_log_gets_a_line_when_the_state_changes_or_time_has_passed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ProgressBar() as bar:
        bar.show(Standing("queued", 10), 0.0)
        bar.show(Standing("running", 10, 1), 1.0)
        bar.show(Standing("running", 10, 2), 2.0)
        bar.show(Standing("running", 10, 9), 40.0)
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.split()[1] for line in said.err.splitlines()] == ["0/10", "1/10", "9/10"]


@pytest.mark.parametrize("columns", [80, 200])
def test_a_bar_fits_its_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    with ProgressBar() as bar:
        bar.show(STANDING, 0.0)
    text = screen.getvalue()
    assert "120/1,000 12%" in text
    assert "waits: it is paused" in text


def test_what_the_terminal_is_told_is_never_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    output.terminal().print("[red]x[/red] :smile:")
    assert screen.getvalue() == "[red]x[/red] :smile:\n"
