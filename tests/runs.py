"""Runs for tests: `batchmill run` as people start it, and what it left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def run(
    *arguments: str | Path, folder: Path, stdin: bytes = b"", seconds: float = 60.0
) -> subprocess.CompletedProcess[bytes]:
    """One run in that folder, from its first word to its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "batchmill", "run", *map(str, arguments)],
        cwd=folder,
        input=stdin,
        capture_output=True,
        timeout=seconds,
        check=False,
        env=os.environ | {"BATCHMILL_ENGINE": ""},
    )


def objects(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def ids(path: Path) -> list[str]:
    """The custom_ids of result lines, in their order."""
    return [line["custom_id"] for line in objects(path)]
