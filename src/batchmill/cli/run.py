"""`batchmill run`: from a file to results without a server. Data goes to standard output alone,
everything that is said to standard error.
How it is carried out stands in `running.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchmill.model import OnInvalid
from batchmill.tables.policies import Missing, OnBadAnswer
from batchmill.tables.rows import Format

Input = Annotated[
    str, typer.Option("-i", "--input", "--input-file", help="The lines: a file, URL, or - (stdin).")
]
Output = Annotated[
    str, typer.Option("-o", "--output", "--output-file", help="A file, URL (PUT), or - (stdout).")
]
Errors = Annotated[
    str | None, typer.Option(help="Where failed lines go (beside the output: NAME.errors.jsonl).")
]
Engines = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SPEC",
        help="http(s)://host:port/v1, local[:model.gguf] or sim[:options]; may be repeated.",
    ),
]
Model = Annotated[str | None, typer.Option(help="The model that all lines are sent to.")]
Endpoint = Annotated[str | None, typer.Option(help="Such as /v1/embeddings (what the lines say).")]
Concurrency = Annotated[
    int | None, typer.Option(min=1, help="Calls in flight at most, for each engine.")
]
Invalid = Annotated[OnInvalid, typer.Option(help="Bad lines stop all, or fail alone.")]
State = Annotated[
    Path | None, typer.Option(help="Where what is done is kept meanwhile (OUTPUT.batchmill).")
]
Config = Annotated[Path | None, typer.Option(help="TOML file (./batchmill.toml where it exists).")]
Prompt = Annotated[
    str | None, typer.Option(help="For a table: what to ask of each row, with {{column}} in it.")
]
System = Annotated[str | None, typer.Option(help="For a table: what stands before it; or @file.")]
Schema = Annotated[
    str | None, typer.Option(help="For a table: JSON Schema (a file) that answers should follow.")
]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=VALUE", help="For a table: such as temperature=0."),
]
MissingValue = Annotated[
    Missing | None, typer.Option("--missing", help="For a table: what no value is (empty).")
]
BadAnswer = Annotated[
    OnBadAnswer | None,
    typer.Option(help="For a table: keep bad answers, ask again, or make them errors (keep)."),
]
From = Annotated[
    Format | None, typer.Option("--from", help="For a table: its format (what its name says).")
]
To = Annotated[
    Format | None, typer.Option("--to", help="For a table: format of the results (by their name).")
]
Restart = Annotated[bool, typer.Option("--restart", help="Throw away what is done; begin anew.")]
Force = Annotated[bool, typer.Option("--force", help="Replace results that exist.")]
Keep = Annotated[bool, typer.Option("--keep", help="Keep the state directory once done.")]
Accept = Annotated[
    bool, typer.Option("--accept-changes", help="Go on although the engines are others now.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say only what is wrong.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Log every event.")]


def run(
    context: typer.Context,
    input: Input,
    output: Output,
    engine: Engines = None,
    errors: Errors = None,
    model: Model = None,
    endpoint: Endpoint = None,
    concurrency: Concurrency = None,
    on_invalid: Invalid = OnInvalid.FAIL,
    state: State = None,
    config: Config = None,
    prompt: Prompt = None,
    system: System = None,
    schema: Schema = None,
    param: Params = None,
    missing: MissingValue = None,
    on_bad_answer: BadAnswer = None,
    from_: From = None,
    to: To = None,
    *,
    restart: Restart = False,
    force: Force = False,
    keep: Keep = False,
    accept_changes: Accept = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run a batch file or a table without a server. The same command goes on where it stopped."""
    from batchmill.app.run.wanted import Wanted  # noqa: PLC0415 - other commands start faster
    from batchmill.cli.running import begin, carried_out  # noqa: PLC0415
    from batchmill.cli.tableflags import TableFlags, table_of  # noqa: PLC0415
    from batchmill.cli.vllmflags import refuse_unknown  # noqa: PLC0415

    known = [option for each in context.command.params for option in each.opts]
    refuse_unknown(context.args, known)
    flags = TableFlags(prompt, system, schema, param or (), missing, on_bad_answer, from_, to)
    table = table_of(flags, input, output, errors)
    settings = begin(engine, config, concurrency, verbose=verbose)
    changes = (restart, force, keep, accept_changes)
    of_lines = (errors, state, model, endpoint, on_invalid)
    wanted = Wanted(input, output, settings, *of_lines, *changes, table)
    raise typer.Exit(carried_out(wanted, quiet=quiet))
