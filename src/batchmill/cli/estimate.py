"""`batchmill estimate`: how many lines and tokens, how long, how dear; what nobody knows is
"unknown", never nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from batchmill.cli import words
from batchmill.cli.checks import CHAT, LocalFile, opened
from batchmill.cli.exits import Failure
from batchmill.cli.output import AsJson, Output, note
from batchmill.cli.server import Url, connected
from batchmill.cli.tokens import Counted, count, open_tokenizer

if TYPE_CHECKING:
    from batchmill.client import Client, Job

JOBS_LOOKED_AT: Final = 200
BYTES_A_TOKEN: Final = 4.0
MILLION: Final = 1_000_000
LEAST_LINES: Final = 20
"""A job of fewer lines tells nothing of the pace."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What jobs of the same model have taken for each line; None where none tells."""

    jobs: int = 0
    seconds: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a file would take, and how that is known."""

    counted: Counted
    input_tokens: int | None
    input_known: str
    output_tokens: int | None
    output_known: str
    seconds: float | None
    time_known: str
    price: float | None
    price_known: str


def estimate(
    path: Annotated[str, typer.Argument(metavar="FILE", help="Lines; - is stdin.")],
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="The model that would run them.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="A tokenizer.json, to count tokens exactly.")
    ] = None,
    input_price: Annotated[
        float | None, typer.Option(min=0, help="For a million input tokens.")
    ] = None,
    output_price: Annotated[
        float | None, typer.Option(min=0, help="For a million output tokens.")
    ] = None,
    url: Url = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Estimate what a file of lines would take: tokens, time and money.

    Tokens are counted with --tokenizer, else taken from earlier jobs of the model on the server,
    else estimated by length; time is what such jobs took. What is not known is said so.
    """
    with opened(path) as file:
        counted = count(file, open_tokenizer(tokenizer) if tokenizer else None)
    named = model or next(iter(counted.models), None)
    made = weighed(counted, _measured(url, named), (input_price, output_price))
    Output(as_json=as_json).fields(fields(file, made), as_object(file, made))


def weighed(
    counted: Counted, measured: Measured, prices: tuple[float | None, float | None]
) -> Estimate:
    """The estimate. Pure."""
    jobs = words.plural(measured.jobs, "earlier job")
    tokens, known = _input(counted, measured, jobs)
    output, output_known = None, "no earlier job of this model tells"
    if measured.output_tokens is not None:
        output, output_known = round(measured.output_tokens * counted.lines), f"as in {jobs}"
    if counted.most_output is not None:
        output_known += f"; the lines allow {words.amount(counted.most_output)} at most"
        output = output if output is None else min(output, counted.most_output)
    seconds = None if measured.seconds is None else measured.seconds * counted.lines
    time_known = f"as in {jobs}" if seconds is not None else "no earlier job of this model tells"
    price, price_known = _price(tokens, output, *prices)
    return Estimate(
        counted, tokens, known, output, output_known, seconds, time_known, price, price_known
    )


def _input(counted: Counted, measured: Measured, jobs: str) -> tuple[int | None, str]:
    if counted.tokens is not None and not counted.textless:
        return counted.tokens, "counted, without the chat template"
    if measured.input_tokens is not None:
        return round(measured.input_tokens * counted.lines), f"as in {jobs}"
    if counted.textless:
        return None, f"{words.plural(counted.textless, 'line')} without text, such as images"
    tokens = round(counted.prompt_bytes / BYTES_A_TOKEN)
    return tokens, f"estimated: {BYTES_A_TOKEN:g} bytes a token"


def measured_by(jobs: Sequence[Job]) -> Measured:
    """What these jobs took for each line that was answered. Pure."""
    told = [job for job in jobs if job.is_ended and job.succeeded_requests >= LEAST_LINES]
    lines = sum(job.succeeded_requests for job in told)
    if not lines:
        return Measured()
    seconds = sum((job.completed_at or 0) - (job.started_at or job.created_at) for job in told)
    input_tokens = sum(job.progress.input_tokens for job in told)
    output_tokens = sum(job.progress.output_tokens for job in told)
    return Measured(
        jobs=len(told),
        seconds=max(seconds, 1) / lines,
        input_tokens=input_tokens / lines if input_tokens else None,
        output_tokens=output_tokens / lines if output_tokens else None,
    )


def _price(
    tokens: int | None, output: int | None, input_price: float | None, output_price: float | None
) -> tuple[float | None, str]:
    if input_price is None and output_price is None:
        return None, "no prices given (--input-price, --output-price)"
    if input_price and tokens is None:
        return None, "the input tokens are unknown"
    if output_price and output is None:
        return None, "the output tokens are unknown"
    whole = (tokens or 0) * (input_price or 0.0) + (output or 0) * (output_price or 0.0)
    return whole / MILLION, "by the prices given"


def _measured(url: str | None, model: str | None) -> Measured:
    """What the server's jobs tell; nothing where there is no server to ask."""
    try:
        with connected(url) as client:
            return measured_by(_alike(client, model))
    except Failure as error:
        note(f"Not asked what earlier jobs took: {error}")
        return Measured()


def _alike(client: Client, model: str | None) -> list[Job]:
    """Ended jobs of the same model; without a name of one only where one model is served."""
    if model is None and len({card.served_as for card in client.models()}) != 1:
        return []
    return [job for job in client.jobs(limit=JOBS_LOOKED_AT, model=model) if job.is_ended]


def fields(file: LocalFile, made: Estimate) -> dict[str, str | None]:
    """The estimate for people."""
    price = words.UNKNOWN if made.price is None else f"{made.price:,.2f}"
    return {
        "file": file.name,
        "size": words.size(file.size_bytes),
        "lines": words.number(made.counted.lines),
        "endpoint": file.endpoint or CHAT,
        "model": ", ".join(sorted(made.counted.models)) or None,
        "input tokens": f"{words.number(made.input_tokens)} ({made.input_known})",
        "output tokens": f"{words.number(made.output_tokens)} ({made.output_known})",
        "time": f"{words.duration(made.seconds)} ({made.time_known})",
        "price": f"{price} ({made.price_known})",
    }


def as_object(file: LocalFile, made: Estimate) -> dict[str, Any]:
    """The estimate for programs; what is unknown is null."""
    return {
        "file": file.name,
        "bytes": file.size_bytes,
        "lines": made.counted.lines,
        "models": sorted(made.counted.models),
        "input_tokens": made.input_tokens,
        "input_tokens_known_by": made.input_known,
        "output_tokens": made.output_tokens,
        "output_tokens_known_by": made.output_known,
        "most_output_tokens": made.counted.most_output,
        "seconds": made.seconds,
        "seconds_known_by": made.time_known,
        "price": made.price,
        "price_known_by": made.price_known,
    }
