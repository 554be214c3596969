from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs import ids, objects
from tests.serving import Sim, chat_lines, eventually, simulating

LINES = 10_000
KILLS = 10
MOST_CALLS_PER_LINE = 1.1


def begun(sim: Sim, folder: Path) -> subprocess.Popen[bytes]:
    command = ["-m", "batchmill", "run", "-i", "in.jsonl", "-o", "out.jsonl", "--engine", sim.url]
    return subprocess.Popen([sys.executable, *command], cwd=folder, stderr=subprocess.PIPE)


@pytest.mark.timeout(600)
def test_a_run_that_was_killed_ten_times_ends_whole_and_asks_hardly_a_line_twice(
    tmp_path: Path,
) -> None:
    (tmp_path / "in.jsonl").write_bytes(chat_lines(LINES))
    with simulating("latency=20ms") as sim:
        for kill in range(1, KILLS + 1):
            at = kill * LINES // (KILLS + 1)
            process = begun(sim, tmp_path)
            eventually(lambda at=at: sim.calls()["total"] >= at, 90, "the next kill")
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert not (tmp_path / "out.jsonl").exists()
        process = begun(sim, tmp_path)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        calls = sim.calls()
    assert ids(tmp_path / "out.jsonl") == [f"line-{n}" for n in range(LINES)]
    assert all(line["response"]["status_code"] == 200 for line in objects(tmp_path / "out.jsonl"))
    assert len(calls["by_id"]) == LINES
    assert calls["total"] <= MOST_CALLS_PER_LINE * LINES
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]
