"""Processes that a measurement starts and ends, and what /proc says of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 20.0


class Failure(Exception):
    """A measurement could not be made; the message says why in one sentence."""


@contextmanager
def running(
    command: Sequence[str],
    log: Path,
    *,
    piped: bool = False,
    more: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """The process while the block lasts; what it prints goes to `log`. Its input is empty, or a
    pipe that nobody writes to; its environment has `more` than ours."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BATCHMILL_")}
    environment |= more or {}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=folder,
        )
    try:
        yield process
    finally:
        stop(process)


def measured_loop(module: str, *arguments: str) -> float:
    """Run a loop in a process of its own; what it prints: its CPU in microseconds for each
    line."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise Failure(f"{' '.join([module, *arguments[:1]])} failed: {''.join(last)}")
    return float(done.stdout)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to end, and kill it where it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(
    done: Callable[[], bool], seconds: float, what: str, every_seconds: float = 0.02
) -> None:
    """Ask again and again. Raises `Failure` where it takes longer than that."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise Failure(f"{what} took longer than {seconds:g} s")
        time.sleep(every_seconds)


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cpu_seconds(pid: int, *, with_ended: bool = False) -> float:
    """User and system time of all threads of the process; its children are left out, or only
    those that live."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()
    return sum(map(int, fields[11 : 15 if with_ended else 13])) / TICKS


def started_at(pid: int) -> int:
    """When the process began, in ticks since the machine did; 0 for one that is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat[stat.rindex(")") + 2 :].split()[19])


def peak_bytes(pid: int) -> int:
    """The most memory the process ever had resident (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise Failure(f"process {pid} has no VmHWM")


def children(pid: int) -> list[int]:
    """The processes that this one started and that live."""
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def words(pid: int) -> list[str]:
    """The command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
