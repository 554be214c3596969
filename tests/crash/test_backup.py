"""A backup taken while a job runs, in the order that docs/operations.md gives, is a whole one: the
machine is lost, the backup is restored elsewhere, and the job goes on to every line once."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.serving import chat_lines, eventually, serving, simulating

LINES = 4_000
TRIES = 10
PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
CHECK = re.findall(r'sqlite3 backup/ledger\.sqlite "\n(.*?)"', PAGE, re.DOTALL)[0]


def backed_up(data: Path, backup: Path) -> list[str]:
    """Take a backup; the blobs that its ledger names and it does not have."""
    blobs = backup / "blobs"
    link_new(data / "blobs", blobs)
    with closing(sqlite3.connect(data / "ledger.sqlite")) as ledger:
        ledger.execute("VACUUM INTO ?", (str(backup / "ledger.sqlite"),))
    link_new(data / "blobs", blobs)
    return missing(backup)


def link_new(source: Path, target: Path) -> None:
    """What `cp -al` does, or `cp -alu` where the target is there already."""
    for folder, _, names in os.walk(source):
        there = target / Path(folder).relative_to(source)
        there.mkdir(parents=True, exist_ok=True)
        for name in names:
            try:
                os.link(Path(folder) / name, there / name)
            except (FileExistsError, FileNotFoundError):
                continue  # it is there already, or was swept meanwhile


def missing(backup: Path) -> list[str]:
    with closing(sqlite3.connect(backup / "ledger.sqlite")) as ledger:
        named = [name for (name,) in ledger.execute(CHECK)]
    assert named
    return [name for name in named if not (backup / "blobs" / name).exists()]


@pytest.mark.timeout(300)
def test_a_restored_backup_of_a_running_job_goes_on_to_every_line_once(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    with simulating("latency=30ms") as sim:
        config = tmp_path / "batchmill.toml"
        config.write_text(f'[[engines]]\nname = "counted"\nurl = "{sim.url}"\nconcurrency = 16\n')
        with serving(tmp_path / "data", "--config", str(config)) as serve:
            job = serve.create(input_files=[serve.upload(chat_lines(LINES))])
            eventually(lambda: sim.calls()["total"] >= LINES / 3, 120, "a third of the lines")
            for _ in range(TRIES):
                shutil.rmtree(backup, ignore_errors=True)
                backup.mkdir()
                if not backed_up(serve.data, backup):
                    break
            assert serve.job(job["id"])["status"] == "RUNNING"
            serve.kill()
        assert not missing(backup)
        shutil.rmtree(tmp_path / "data")
        with serving(backup, "--config", str(config)) as serve:
            ended = serve.wait_ended(job["id"], 120)
            assert (ended["status"], ended["succeeded_requests"]) == ("SUCCESS", LINES)
            results = serve.lines_of(ended["output_file"])
            assert [line["custom_id"] for line in results] == [f"line-{n}" for n in range(LINES)]
            assert sim.calls()["total"] < 2 * LINES, "what the backup held was kept"


def test_the_check_finds_a_blob_that_the_backup_lacks(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    with serving(tmp_path / "data", "--engine", "sim") as serve:
        serve.upload(chat_lines(3))
        assert backed_up(serve.data, backup) == []
    (blob,) = [path for path in (backup / "blobs" / "inputs").rglob("*") if path.is_file()]
    blob.unlink()
    assert missing(backup) == [str(blob.relative_to(backup / "blobs"))]
