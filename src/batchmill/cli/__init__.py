"""The command line: `batchmill serve`, `worker`, `workers`, `keys` and `version`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; what the `batchmill` script calls. Linux only: leases count on its
    boot clock, children on its parent-death signal."""
    if sys.platform != "linux":
        sys.exit(f"batchmill: needs Linux, and this is {sys.platform}; a container will do")
    from batchmill.cli.main import run  # noqa: PLC0415 - cannot be imported elsewhere

    run()
