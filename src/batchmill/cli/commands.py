"""The commands by name, and the application that they make.

Each stands in a module of its own, which is only loaded when it is wanted: a command that is run
starts in a third of the time that all of them take together.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import typer

COMMANDS: Final = {
    "serve": "serving",
    "worker": "serving",
    "run": "run",
    "submit": "submit",
    "ls": "jobs",
    "get": "jobs",
    "watch": "watch",
    "results": "results",
    "errors": "errors",
    "retry": "jobs",
    "cancel": "jobs",
    "pause": "jobs",
    "resume": "jobs",
    "extend": "jobs",
    "rm": "jobs",
    "models": "models",
    "engines": "engines",
    "workers": "workers",
    "validate": "validate",
    "estimate": "estimate",
    "gc": "gc",
    "doctor": "doctor",
    "version": "version",
}
"""Each command, and the module whose function of that name it is."""

FLAGS_OF_OTHERS: Final = {"allow_extra_args": True, "ignore_unknown_options": True}
"""For `run`, which says itself what is wrong with flags of other programs (`vllmflags.py`)."""

GROUPS: Final = {"files": "files", "keys": "keys", "db": "db"}
"""Each group of commands, and the module that has it as `app`."""


def application(only: str | None = None) -> typer.Typer:
    """The command line with all its commands, or with that one alone where there is such."""
    app = typer.Typer(
        name="batchmill",
        help="Mistral's and OpenAI's batch APIs on your own machine, in front of any engine.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_batchmill)
    is_one = only in COMMANDS or only in GROUPS
    for name, module in COMMANDS.items():
        if not is_one or name == only:
            settings = FLAGS_OF_OTHERS if name == "run" else None
            app.command(name, context_settings=settings)(getattr(_module(module), name))
    for name, module in GROUPS.items():
        if not is_one or name == only:
            app.add_typer(_module(module).app, name=name)
    return app


def _batchmill() -> None:
    """Mistral's and OpenAI's batch APIs on your own machine, in front of any engine."""


def _module(name: str) -> Any:
    return import_module(f"batchmill.cli.{name}")
