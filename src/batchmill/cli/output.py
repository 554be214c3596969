"""What a command says, and where: data on standard output, everything else on standard error.

On a terminal rows are a table and one thing is a list of its fields; in a pipe, or with `--json`,
each is one JSON object on a line, as programs read it. `words.py` is how figures are written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

import typer

from batchmill.cli.words import printable

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
GAP = 2

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, as in a pipe.")]
"""The flag that every command with data has."""

STYLES: Mapping[str, str] = {
    "completed": "green",
    "ok": "green",
    "failed": "red",
    "fail": "red",
    "expired": "red",
    "cancelled": "yellow",
    "cancelling": "yellow",
    "paused": "yellow",
    "warn": "yellow",
    "running": "cyan",
}
"""Colours of some words; the word is always there too."""


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column of a table: its head, what stands there of a row, and how much it matters.

    Where the terminal is too narrow the columns of the highest `rank` go first, those of rank 0
    never. `flexible`: a long text is cut with an ellipsis before any column goes.
    """

    head: str
    text: Callable[[T], str]
    rank: int = 0
    right: bool = False
    flexible: bool = False


class Output:
    """The ways out of one command."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.is_for_people = not as_json and sys.stdout.isatty()

    def rows(
        self,
        rows: Iterable[T],
        columns: Sequence[Column[T]],
        as_object: Callable[[T], Mapping[str, Any]],
        nothing: str = "none",
    ) -> None:
        """Things of one kind. `nothing` is said to people when there is none."""
        if not self.is_for_people:
            for row in rows:
                self.json(as_object(row))
            return
        seen = list(rows)
        if not seen:
            note(nothing)
            return
        self._table(seen, columns)

    def fields(self, fields: Mapping[str, str | None], as_object: Mapping[str, Any]) -> None:
        """One thing: its fields by name for people (those that are None are left out), all of it
        for programs."""
        if not self.is_for_people:
            self.json(as_object)
            return
        from rich.text import Text  # noqa: PLC0415 - only people wait for it

        shown = {name: text for name, text in fields.items() if text is not None}
        wide = max(map(len, shown), default=0) + GAP
        console = terminal()
        for name, text in shown.items():
            line = Text(f"{name:{wide}}", style="dim")
            line.append(printable(text), style=STYLES.get(text.split(" ", 1)[0], "not dim"))
            console.print(line, soft_wrap=True)

    def json(self, value: Mapping[str, Any]) -> None:
        """One object on a line."""
        sys.stdout.write(json.dumps(value) + "\n")

    def line(self, text: str) -> None:
        """One line of data, as it is."""
        sys.stdout.write(text + "\n")

    def _table(self, rows: Sequence[T], columns: Sequence[Column[T]]) -> None:
        from rich.cells import cell_len, set_cell_size  # noqa: PLC0415 - only people wait for it
        from rich.text import Text  # noqa: PLC0415

        console = terminal()
        cells = {each.head: [printable(each.text(row)) for row in rows] for each in columns}
        widths = {
            head: max(cell_len(text) for text in (head, *texts)) for head, texts in cells.items()
        }
        kept = fitting(columns, widths, console.width)
        console.print(_joined([Text(each.head, style="bold") for each in kept], kept, widths))
        for n in range(len(rows)):
            line = []
            for each in kept:
                text = cells[each.head][n]
                if cell_len(text) > widths[each.head]:
                    text = set_cell_size(text, widths[each.head] - 3) + "..."
                line.append(Text(text, style=STYLES.get(text.split(" ", 1)[0], "")))
            console.print(_joined(line, kept, widths))


def fitting(columns: Sequence[Column[T]], widths: dict[str, int], room: int) -> Sequence[Column[T]]:
    """The columns that have room; narrows the flexible ones in `widths`, at least to 16."""
    kept = list(columns)
    while True:
        over = sum(widths[each.head] + GAP for each in kept) - GAP - room
        for each in kept:
            if over > 0 and each.flexible:
                narrower = min(widths[each.head], max(16, widths[each.head] - over))
                over -= widths[each.head] - narrower
                if over <= 0:
                    widths[each.head] = narrower
        worst = max((each.rank for each in kept), default=0)
        if over <= 0 or worst == 0:
            return kept
        kept.remove(next(each for each in reversed(kept) if each.rank == worst))


def terminal(*, error: bool = False) -> Console:
    """What writes to people: styled unless NO_COLOR or TERM say otherwise; nothing is guessed."""
    from rich.console import Console  # noqa: PLC0415 - only people wait for it

    def console(colours: Literal["auto"] | None) -> Console:
        return Console(
            stderr=error,
            color_system=colours,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=not error,
        )

    styled = console("auto")
    return console(None) if styled.no_color else styled


def note(text: str) -> None:
    """A hint, a warning or a result in words, on standard error."""
    typer.echo(text, err=True)


def _joined(texts: Sequence[Any], columns: Sequence[Column[T]], widths: Mapping[str, int]) -> Any:
    """The cells of one line of a table."""
    from rich.text import Text  # noqa: PLC0415 - only people wait for it

    line = Text()
    for text, column in zip(texts, columns, strict=True):
        space = " " * (widths[column.head] - text.cell_len)
        line.append_text(Text(space) + text if column.right else text + Text(space))
        line.append(" " * GAP)
    line.rstrip()
    return line
