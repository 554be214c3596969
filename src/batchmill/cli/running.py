"""Carrying out `batchmill run`: signals, what is shown meanwhile, and the exit code.

0 all lines answered, 1 failed, 2 cannot begin as asked, 3 finished with failed lines, 130
interrupted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from batchmill.app.launch import give_memory_back
from batchmill.app.run.conduct import Ended, conduct
from batchmill.app.run.wanted import Wanted
from batchmill.app.worker import allow_many_connections, collect_seldom
from batchmill.cli.output import note
from batchmill.cli.progressbar import ProgressBar
from batchmill.cli.runsights import LOG_SECONDS, Sights, closing_lines
from batchmill.clock import SystemClock
from batchmill.config import Settings, load
from batchmill.errors import BatchmillError, ConfigError
from batchmill.model import JobState
from batchmill.telemetry import configure_logs

DONE: Final = 0
FAILED: Final = 1
FAILED_LINES: Final = 3
INTERRUPTED: Final = 130
LEAVE_SECONDS: Final = 0.5
"""What a stop leaves for closing what is open; a read or write that blocks never ends."""


def begin(
    engines: Sequence[str] | None,
    config: Path | None,
    concurrency: int | None,
    *,
    verbose: bool,
) -> Settings:
    """The settings of a run, and its logs. Raises `ConfigError`."""
    configure_logs("run", logging.INFO if verbose else logging.ERROR)
    settings = load({"engines": engines, "config": config})
    if concurrency is None:
        return settings
    bounded = tuple(
        each.model_copy(update={"concurrency": concurrency}) for each in settings.engines
    )
    return settings.model_copy(update={"engines": bounded})


def carried_out(wanted: Wanted, *, quiet: bool) -> int:
    """The exit code, once all is said."""
    give_memory_back()
    collect_seldom()
    allow_many_connections()
    try:
        ended = uvloop.run(_watched(wanted, quiet=quiet))
    except ConfigError:
        raise
    except BatchmillError as error:
        note(f"batchmill: {error}")
        return FAILED
    except asyncio.CancelledError:
        return INTERRUPTED
    return _said(ended, quiet=quiet)


def _said(ended: Ended, *, quiet: bool) -> int:
    """The exit code, and what there is to say at the end."""
    code = exit_code(ended)
    if not quiet or code not in (DONE, FAILED_LINES):
        for line in closing_lines(ended, _command()):
            note(line)
    return code


def _command() -> str:
    return shlex.join(["batchmill", *sys.argv[1:]])


async def _watched(wanted: Wanted, *, quiet: bool) -> Ended:
    """Run it; the first signal stops it gently, the second at once. Whatever a thread still waits
    for then, the input of a pipe that nobody writes to say, is left to itself."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def on_signal() -> None:
        if stop.is_set():
            note(f"left at once; the same command goes on with what was kept: {_command()}")
            task.cancel()
            loop.call_later(LEAVE_SECONDS, os._exit, INTERRUPTED)
        else:
            stop.set()
            note("stopping; what is in flight may land (Ctrl-C again: at once)")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    with ProgressBar(quiet=quiet, log_seconds=LOG_SECONDS) as bar:
        ended = await conduct(wanted, Sights(bar, SystemClock(), quiet), stop)
    if stop.is_set():
        loop.call_later(LEAVE_SECONDS, lambda: os._exit(_said(ended, quiet=quiet)))
    return ended


def exit_code(ended: Ended) -> int:
    """What the run says to a program."""
    if ended.job is None or ended.is_interrupted:
        return INTERRUPTED
    if ended.handed is None or ended.job.state is not JobState.COMPLETED:
        return FAILED
    return FAILED_LINES if ended.job.failed or ended.handed.has_errors else DONE
