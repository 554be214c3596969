"""What the shell hands over: closed streams, and arguments that are no text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs import ids
from tests.serving import chat_lines

BATCHMILL = f"{sys.executable} -m batchmill"


def in_shell(command: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, timeout=60, check=False
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_run_needs_none_of_the_standard_streams(closed: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(chat_lines(3))
    done = in_shell(f"{BATCHMILL} run -i in.jsonl -o out.jsonl --engine sim {closed}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert ids(tmp_path / "out.jsonl") == ["line-0", "line-1", "line-2"]


@pytest.mark.parametrize("command", ["validate - <&-", "ls --url http://127.0.0.1:9 >&-"])
def test_a_command_without_its_stream_says_so_in_words(command: str, tmp_path: Path) -> None:
    done = in_shell(f"{BATCHMILL} {command}", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(b"batchmill: ")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["run -i x -o y --model", "serve --data", "submit"])
def test_an_argument_that_is_no_text_is_refused(command: str, tmp_path: Path) -> None:
    done = in_shell(f"{BATCHMILL} {command} $'x\\xff'", tmp_path)
    assert done.returncode == 2
    assert b"is not UTF-8" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
