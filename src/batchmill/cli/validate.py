"""`batchmill validate`: is a file good input? Without a server, by the server's own code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchmill.cli import words
from batchmill.cli.checks import CHAT, LocalFile, check, opened
from batchmill.cli.exits import FAILED
from batchmill.cli.output import AsJson, Output, note

if TYPE_CHECKING:
    from batchmill.core.checking import Checked, Finding

Path = Annotated[
    str, typer.Argument(metavar="FILE", help="Lines of Mistral's or OpenAI's kind; - is stdin.")
]
Endpoint = Annotated[
    str | None, typer.Option(help="The endpoint of the job (what the lines say, else chat).")
]


def validate(path: Path, endpoint: Endpoint = None, *, as_json: AsJson = False) -> None:
    """Check a file of lines, without a server: the same judgement as the server's.

    Prints each bad line with its field, what was found and what is expected; the first hundred.
    Whether the models are served only the server can say. Leaves with 1 where a line is bad.
    """
    with opened(path) as file:
        checked = check(file, endpoint)
        report(file, checked, Output(as_json=as_json))
        note(summary(file, checked, endpoint))
    if checked.bad or not checked.lines:
        raise typer.Exit(FAILED)


def report(file: LocalFile, checked: Checked, out: Output) -> None:
    """The bad lines: for people as compilers tell of them, whole at any width."""
    for finding in checked.findings:
        if out.is_for_people:
            out.line(words.printable(sentence(file, finding)))
        else:
            out.json(as_object(file, finding))


def summary(file: LocalFile, checked: Checked, endpoint: str | None) -> str:
    """What was found, in a line."""
    kind = "OpenAI's" if file.is_openai else "Mistral's"
    lines = words.plural(checked.lines, "line")
    said = f"{file.name}: {lines} of {kind} kind for {endpoint or file.endpoint or CHAT}"
    if not checked.lines:
        return f"{file.name} holds no line; it should hold one request a line."
    if checked.models:
        named = ", ".join(sorted(checked.models)[:5])
        said += f", model {words.printable(named)}" + (", ..." if len(checked.models) > 5 else "")
    if not checked.bad:
        return f"{said}; all are good."
    return f"{said}; {words.number(checked.bad)} of them bad." + (
        f" The first {len(checked.findings)} are shown."
        if checked.bad > len(checked.findings)
        else ""
    )


def as_object(file: LocalFile, finding: Finding) -> dict[str, Any]:
    """A bad line for programs."""
    error = finding.error
    return {
        "file": file.name,
        "line": error.line,
        "field": error.param,
        "code": error.code,
        "message": error.message,
        "found": finding.found,
        "expected": finding.expected,
    }


def sentence(file: LocalFile, finding: Finding) -> str:
    """A bad line in words: where, which field, what stands there and what should."""
    error = finding.error
    place = f"{file.name}:{error.line}: {error.param or 'the line'}"
    return f"{place}: found {finding.found}; expected {finding.expected} [{error.code}]"
