"""Commands in a real terminal of a given width (tmux), one after the other, and what they show.

Run as a program inside the terminal it reads command lines from a file and runs each in a child
that is forked once everything is loaded: real commands, at a tenth of the cost of starting each.
A line that ends with `| cat` has its output in a pipe.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PIPED = " | cat"
_BEGIN, _END = "<<begin>>", "<<end "
_ALL = "<<all>>"
_SECONDS = 120.0


@dataclass(frozen=True)
class Shown:
    """What one command showed, and its exit code."""

    command: str
    text: str
    code: int


def show(
    commands: Sequence[str], columns: int, folder: Path, environ: Mapping[str, str]
) -> list[Shown]:
    """Run the commands in a terminal so wide, in the folder."""
    tmux = shutil.which("tmux")
    if tmux is None:
        if os.environ.get("CI"):
            pytest.fail("tmux is missing: apt-get install tmux")
        pytest.skip("tmux is not installed (apt-get install tmux)")
    script = folder / f".commands-{columns}"
    script.write_text("\n".join(commands))
    socket = f"batchmill-{uuid.uuid4().hex[:12]}"
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    settings = {**environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    inside = [sys.executable, "-m", "tests.service.cli.terminal", str(script)]
    start = [tmux, "-L", socket, "-f", "/dev/null", "new-session", "-d", "-s", "t"]
    start += ["-x", str(columns), "-y", "50", "-c", str(folder)]
    for name, value in settings.items():
        start += ["-e", f"{name}={value}"]
    command = f"tmux set -g history-limit 20000; exec {shlex.join(inside)}; sleep 60"
    try:
        subprocess.run([*start, command.replace("tmux ", f"{tmux} -L {socket} ", 1)], check=True)
        return _parsed(_captured([tmux, "-L", socket]), commands)
    finally:
        subprocess.run([tmux, "-L", socket, "kill-server"], check=False, capture_output=True)


def _captured(tmux: list[str]) -> str:
    """All that the terminal shows once the last command has ended."""
    text, deadline = "", time.monotonic() + _SECONDS
    while _ALL not in text:
        assert time.monotonic() < deadline, f"the commands did not end: {text[-2000:]}"
        time.sleep(0.2)
        capture = [*tmux, "capture-pane", "-p", "-J", "-S", "-", "-t", "t"]
        text = subprocess.run(capture, capture_output=True, text=True, check=False).stdout
    return text


def _parsed(text: str, commands: Sequence[str]) -> list[Shown]:
    shown = []
    for command, piece in zip(commands, text.split(f"{_BEGIN}\n")[1:], strict=True):
        body, end = piece.split(_END, 1)
        lines = [line.rstrip() for line in body.rstrip("\n").splitlines()]
        shown.append(Shown(command, "\n".join(lines), int(end.split(">>")[0])))
    return shown


def main(script: Path) -> None:
    """Run each command of the script; called inside the terminal."""
    from batchmill.cli.commands import application
    from batchmill.client import Client  # noqa: F401 - loaded once, for every child

    application()
    for line in script.read_text().splitlines():
        print(_BEGIN, flush=True)
        code = _run(line.removesuffix(PIPED), piped=line.endswith(PIPED))
        print(f"{_END}{code}>>", flush=True)
    print(_ALL, flush=True)
    time.sleep(_SECONDS)


def _run(line: str, *, piped: bool) -> int:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(line, writing if piped else None)
    os.close(writing)
    if piped:
        with os.fdopen(reading) as output:
            sys.stdout.write(output.read())
            sys.stdout.flush()
    else:
        os.close(reading)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _child(line: str, output: int | None) -> None:
    from batchmill.cli.main import run

    if output is not None:
        os.dup2(output, 1)
        sys.stdout = os.fdopen(1, "w")
    sys.argv = shlex.split(line)
    code = 0
    try:
        run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
