"""The command line: `batchmill serve`, `batchmill keys`, `batchmill version`."""

from batchmill.cli.main import main

__all__ = ["main"]
