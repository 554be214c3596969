"""The system calls of one commit, in their order: nothing is published that is not durable."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

CALLS = "mkdir,openat,write,pwrite64,fdatasync,fsync,rename,renameat,renameat2"
ROOT = Path(__file__).parents[2]
_LINE = re.compile(r"^(\d+)\s+(.*)$")
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>")
_NAME = re.compile(r"^(\w+)\(")


@dataclass
class Call:
    """A traced system call; `began` and `ended` are places in the trace."""

    name: str
    text: str
    began: int
    ended: int


def trace(folder: Path) -> list[Call]:
    """The calls of the commit, between its two marks."""
    strace = shutil.which("strace")
    if strace is None:
        if os.environ.get("CI"):
            pytest.fail("strace is missing: apt-get install strace")
        pytest.skip("strace is not installed (apt-get install strace)")
    output = folder / "trace"
    command = [strace, "-f", "-y", "-s", "64", "-o", str(output), "-e", f"trace={CALLS}"]
    script = [sys.executable, str(Path(__file__).with_name("commit_once.py")), str(folder)]
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    ran = subprocess.run(
        [*command, *script],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in ran.stderr and not os.environ.get("CI"):
        pytest.skip(f"strace may not trace here: {ran.stderr.strip()}")
    assert ran.returncode == 0, ran.stderr
    calls = parse(output.read_text())
    marks = [n for n, call in enumerate(calls) if call.name == "write" and '"BEGIN' in call.text]
    ends = [n for n, call in enumerate(calls) if call.name == "write" and '"END' in call.text]
    return calls[marks[0] + 1 : ends[0]]


def parse(text: str) -> list[Call]:
    """Calls by their beginning; one that a thread switch cut in two is put together."""
    calls: list[Call] = []
    open_calls: dict[str, Call] = {}
    for place, line in enumerate(text.splitlines()):
        matched = _LINE.match(line)
        if matched is None:
            continue
        thread, rest = matched.groups()
        if _RESUMED.match(rest):
            open_calls.pop(thread).ended = place
        elif name := _NAME.match(rest):
            call = Call(name[1], rest, place, place)
            calls.append(call)
            if rest.endswith("<unfinished ...>"):
                open_calls[thread] = call
    return calls


def only(calls: list[Call], name: str, part: str) -> Call:
    """The one call of that name that is about this path."""
    [call] = [call for call in calls if call.name.startswith(name) and part in call.text]
    return call


def test_a_part_is_durable_before_the_ledger_publishes_it(tmp_path: Path) -> None:
    calls = trace(tmp_path)
    temporary = "/parts/0."
    written = only(calls, "write", temporary)
    synced = only(calls, "fdatasync", temporary)
    renamed = only(calls, "rename", temporary)
    named = only(calls, "fsync", "/parts>")
    assert "01234567890123456789" in written.text
    assert written.ended < synced.began
    assert synced.ended < renamed.began
    assert renamed.ended < named.began

    log = [call for call in calls if "ledger.db-wal>" in call.text]
    publishing = [call for call in log if call.name == "pwrite64"]
    durable = [call for call in log if call.name in {"fdatasync", "fsync"}]
    assert publishing
    assert durable
    assert named.ended < min(call.began for call in publishing)
    assert max(call.ended for call in publishing) < max(call.began for call in durable)


def test_the_name_of_a_new_directory_is_durable_before_a_blob_goes_into_it(tmp_path: Path) -> None:
    calls = trace(tmp_path)
    made = [call for call in calls if call.name == "mkdir"]
    opened = only(calls, "openat", "/parts/0.")
    assert [Path(call.text.split('"')[1]).name for call in made][::2] == ["jobs", "parts"]
    for call in made:
        parent = Path(call.text.split('"')[1]).parent
        synced = next(
            other
            for other in calls
            if other.name == "fsync" and f"{parent}>" in other.text and other.began > call.ended
        )
        assert call.ended < synced.began
        assert synced.ended < opened.began
