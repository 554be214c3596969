"""Machines for tests: network namespaces on cables that can be pulled.

All of it happens inside a namespace of the test's own, which has no way out: `enter` starts a
program in one, and there each `Machine` is another, joined to it by one cable for each purpose.
Needs Linux's `ip` and `unshare`, and to be root or allowed to have user namespaces.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

CLONE_NEWNET = 0x40000000


def enter(*arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run this Python with these arguments in a namespace of its own, as root within it."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", *as_root, "--net", "--fork", "--kill-child", sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


def are_to_be_had() -> bool:
    """Whether this system lets us have namespaces and cables."""
    try:
        return (
            enter(
                "-c", "import tests.namespaces as n; n.Machine(0).remove()", seconds=30
            ).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


@dataclass
class Machine:
    """A namespace that reaches the one around it by two cables. The near end of the cable to the
    database is 10.77.N.1, that of the cable to the engines 10.78.N.1."""

    number: int
    holder: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        _ip("link", "set", "lo", "up")
        self.holder = subprocess.Popen(
            ["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL
        )
        self._wait_apart()
        for net in (77, 78):
            near, far = f"near{net}-{self.number}", f"far{net}-{self.number}"
            _ip("link", "add", near, "type", "veth", "peer", "name", far)
            _ip("link", "set", far, "netns", str(self.holder.pid))
            _ip("addr", "add", f"10.{net}.{self.number}.1/24", "dev", near)
            _ip("link", "set", near, "up")
            self._inside("addr", "add", f"10.{net}.{self.number}.2/24", "dev", far)
            self._inside("link", "set", far, "up")

    @property
    def database_host(self) -> str:
        return f"10.77.{self.number}.1"

    @property
    def engine_host(self) -> str:
        return f"10.78.{self.number}.1"

    def arguments(self, *arguments: str) -> list[str]:
        """How this Python is started on the machine with these arguments."""
        return ["-m", "tests.namespaces", str(self.holder.pid), *arguments]

    def pull(self) -> None:
        """Pull the cable to the database: whatever is sent is lost, nobody is told."""
        _ip("link", "set", f"near77-{self.number}", "down")

    def plug(self) -> None:
        """Put the cable back."""
        _ip("link", "set", f"near77-{self.number}", "up")

    def remove(self) -> None:
        self.holder.kill()
        self.holder.wait()

    def _inside(self, *words: str) -> None:
        _run("nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "ip", *words)

    def _wait_apart(self) -> None:
        """Until the holder has left our namespace."""
        ours = Path("/proc/self/ns/net").readlink()
        while Path(f"/proc/{self.holder.pid}/ns/net").readlink() == ours:
            assert self.holder.poll() is None, "no namespace could be made"


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def main() -> None:
    """Go to the machine whose holder has that pid, and become this Python with the rest."""
    pid, *arguments = sys.argv[1:]
    place = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(place, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    os.close(place)
    os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__main__":
    main()
