"""The commands and their flags. A mistake of the user's is one clear line, never a traceback.

Exit codes: 0 done, 1 failed, 2 cannot begin (a bad setting, flag or place), 130 interrupted.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from batchmill import __version__
from batchmill.cli import db, keys
from batchmill.cli.run import FLAGS_OF_OTHERS
from batchmill.cli.run import run as run_job
from batchmill.cli.workers import workers
from batchmill.config import Role, load
from batchmill.errors import BatchmillError, ConfigError

app = typer.Typer(
    name="batchmill",
    help="Mistral's and OpenAI's batch APIs on your own machine, in front of any engine.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(db.app, name="db")
app.add_typer(keys.app, name="keys")
app.command()(workers)
app.command("run", context_settings=FLAGS_OF_OTHERS)(run_job)

Engines = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SPEC",
        help="http(s)://host:port/v1, local[:model.gguf] or sim[:options]; may be repeated.",
    ),
]


Workers = Annotated[int | None, typer.Option(help="Worker processes, one a core at most (1).")]


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one (8470).")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Directory for everything kept (batchmill-data).")
    ] = None,
    engine: Engines = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file (./batchmill.toml where it exists).")
    ] = None,
    role: Annotated[Role | None, typer.Option(help="Which processes to start (all).")] = None,
    workers: Workers = None,
    *,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine without any API key.")
    ] = False,
) -> None:
    """Serve the batch APIs and run the jobs, until Ctrl-C or SIGTERM.

    Every setting can also stand in the TOML file, or in the environment as BATCHMILL_NAME;
    flags win over both. See docs/settings.md.
    """
    from batchmill.app.following import Source  # noqa: PLC0415 - other commands start faster
    from batchmill.app.serve import serve as run_all  # noqa: PLC0415
    from batchmill.telemetry import configure_logs  # noqa: PLC0415

    flags = {
        "host": host,
        "port": port,
        "data": data,
        "engines": engine,
        "config": config,
        "role": role,
        "workers": workers,
        "insecure": insecure or None,
    }
    settings = load(flags)
    configure_logs("serve")
    raise typer.Exit(run_all(settings, Source(flags), _say))


@app.command()
def worker(
    data: Annotated[
        Path | None, typer.Option(help="The data directory that it shares (batchmill-data).")
    ] = None,
    engine: Engines = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file (./batchmill.toml where it exists).")
    ] = None,
    workers: Workers = None,
) -> None:
    """Run jobs without an API, until Ctrl-C or SIGTERM; any number side by side.

    Reads the same settings as serve.
    """
    from batchmill.app.following import Source  # noqa: PLC0415 - other commands start faster
    from batchmill.app.work import work  # noqa: PLC0415
    from batchmill.telemetry import configure_logs  # noqa: PLC0415

    flags = {"data": data, "engines": engine, "config": config, "workers": workers}
    settings = load(flags)
    configure_logs("worker")
    raise typer.Exit(work(settings, Source(flags), _say))


def _say(line: str) -> None:
    """A line on standard output, for as long as somebody reads it."""
    with contextlib.suppress(BrokenPipeError):
        typer.echo(line)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def run() -> None:
    """Run one command and leave with its exit code."""
    try:
        app(standalone_mode=True)
    except ConfigError as e:
        for problem in e.problems:
            source = f" ({problem.source})" if problem.source else ""
            typer.echo(f"batchmill: {problem.field}: {problem.message}{source}", err=True)
        sys.exit(2)
    except BatchmillError as e:
        typer.echo(f"batchmill: {e}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
