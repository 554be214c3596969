"""Running one command. A mistake of the user's is one clear line, never a traceback.

Exit codes: 0 done, 1 failed, 2 cannot begin (a bad setting, flag or place), 3 a job has ended and
not every line was answered, 130 interrupted. The commands stand in `commands.py`.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from batchmill.cli.commands import application
from batchmill.cli.exits import FAILED, INTERRUPTED, USAGE, Failure
from batchmill.cli.output import note
from batchmill.errors import BatchmillError, ConfigError

_LAST_STANDARD = 2


def run() -> None:
    """Run one command and leave with its exit code; whatever the user did, without a traceback."""
    _open_what_is_closed()
    _require_text(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        application(only=next(iter(sys.argv[1:]), None))(standalone_mode=True)
    except ConfigError as e:
        for problem in e.problems:
            source = f" ({problem.source})" if problem.source else ""
            note(f"batchmill: {problem.field}: {problem.message}{source}")
        sys.exit(USAGE)
    except BatchmillError as e:
        _fail(str(e), USAGE)
    except Failure as e:
        _fail(str(e), e.code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except OSError as e:
        _fail(f"{e.filename or 'standard output'}: {e.strerror or e}", FAILED)


def _require_text(arguments: Sequence[str]) -> None:
    """Leave where one has bytes that are no text: no database and no setting takes them."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            _fail(f"{argument[:200]!a} is not UTF-8; rename the file, or write it in UTF-8", USAGE)


def _open_what_is_closed() -> None:
    """Closed standard streams are the null device: whatever is opened next would take their place,
    and so it would be in every child."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _fail(message: str, code: int) -> NoReturn:
    note(f"batchmill: {message}")
    sys.exit(code)
