"""How a child of `serve` begins: `python -m batchmill.app.launch PARENT MODULE [ARGUMENT]...`

Whatever happens to its parent, the child ends with it: the kernel kills it (PR_SET_PDEATHSIG),
and so does the end of its standard input. The first line of that input are its orders, which the
module reads from `sys.stdin`; later lines are orders that changed (`orders.py`).
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import runpy
import signal
import sys
import threading
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_MMAP_BYTES: Final = 128 * 1024
"""Larger pieces of memory go back to the system as soon as they are freed."""


def main() -> None:
    """Tie this process to its parent, then become the module."""
    parent, module, *arguments = sys.argv[1:]
    c = ctypes.CDLL(None, use_errno=True)
    c.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    give_memory_back()
    if os.getppid() != int(parent):
        sys.exit(1)  # it died before the kernel was told
    orders, rest = _first_line()
    later, end = os.pipe()
    threading.Thread(target=_pass_on, args=(rest, end), daemon=True, name="parent-watch").start()
    sys.stdin = _Input(orders, later)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def give_memory_back() -> None:
    """One arena and a fixed threshold: with glibc's own habits the memory of large replies and of
    a long validation stays with the process. Other C libraries have no `mallopt`."""
    c = ctypes.CDLL(None)
    with contextlib.suppress(AttributeError):
        c.mallopt(_M_ARENA_MAX, 1)
        c.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)


class _Input(io.StringIO):
    """The orders as text; `fileno` is where later ones come from."""

    def __init__(self, orders: str, later: int) -> None:
        super().__init__(orders)
        self._later = later

    def fileno(self) -> int:
        return self._later


def _first_line() -> tuple[str, bytes]:
    """The line that a parent writes first, and what came with it of those after it."""
    read = bytearray()
    while b"\n" not in read:
        piece = os.read(0, 65536)
        if not piece:
            sys.exit(1)
        read += piece
    line, _, rest = bytes(read).partition(b"\n")
    return f"{line.decode()}\n", rest


def _pass_on(piece: bytes, end: int) -> None:
    """Pass on what the parent writes, and end with it."""
    while True:
        while piece:
            piece = piece[os.write(end, piece) :]
        if not (piece := os.read(0, 65536)):
            os._exit(1)


if __name__ == "__main__":
    main()
