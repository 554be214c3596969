from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from batchmill.cli.exits import UNANSWERED
from tests.runs import ids, objects, run
from tests.serving import Sim, as_openai, chat_lines, eventually, simulating

IDS = [f"line-{n}" for n in range(40)]


@pytest.fixture(scope="module")
def sim() -> Iterator[Sim]:
    with simulating() as sim:
        yield sim


@pytest.mark.parametrize("dialect", [bytes, as_openai])
def test_a_file_becomes_results_in_its_order_and_dialect_and_nothing_else_is_left(
    dialect, sim: Sim, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_bytes(dialect(chat_lines(40)))
    done = run("-i", "in.jsonl", "-o", "out.jsonl", "--engine", sim.url, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    assert ids(tmp_path / "out.jsonl") == IDS
    assert ("request_id" in objects(tmp_path / "out.jsonl")[0]["response"]) is (
        dialect is as_openai
    )
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_lines_that_name_their_own_models_each_go_to_theirs(tmp_path: Path) -> None:
    lines = [
        {"custom_id": f"{n}", "body": {"model": model, "input": "x"}}
        for n, model in enumerate(["ma", "mb", "mb", "ma"] * 3)
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = run(
        "-i",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--engine",
        "sim:models=ma|mb",
        "--endpoint",
        "/v1/embeddings",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    answered = [line["response"]["body"]["model"] for line in objects(tmp_path / "out.jsonl")]
    assert answered == ["ma", "mb", "mb", "ma"] * 3


def test_dashes_are_standard_input_and_output_and_all_else_is_said_on_standard_error(
    sim: Sim, tmp_path: Path
) -> None:
    done = run("-i", "-", "-o", "-", "--engine", sim.url, folder=tmp_path, stdin=chat_lines(40))
    assert done.returncode == 0, done.stderr
    (tmp_path / "out").write_bytes(done.stdout)
    assert ids(tmp_path / "out") == IDS
    assert b"40 of 40 lines answered" in done.stderr
    assert b"cannot go on later" in done.stderr


def test_an_interrupt_says_how_to_go_on(sim: Sim, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(chat_lines(40, "!fault:slow=30 {n}"))
    command = ["-m", "batchmill", "run", "-i", "in.jsonl", "-o", "out.jsonl", "--engine", sim.url]
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        env=os.environ | {"BATCHMILL_DRAIN_TIME": "5s"},
    )
    before = sim.calls()["total"]
    eventually(lambda: sim.calls()["total"] > before, 60, "the first call")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"stopped with 0 of 40 lines done" in said
    assert b"go on with the same command: batchmill run -i in.jsonl -o out.jsonl" in said
    assert b"Traceback" not in said
    assert (tmp_path / "out.jsonl.batchmill").is_dir()
    assert not (tmp_path / "out.jsonl").exists()


def killed_as_it_handed_out(sim: Sim, tmp_path: Path) -> list[str]:
    """What a run was asked that was killed between its error file, bad.jsonl, and its output."""
    bad = chat_lines(1, "!status:422").replace(b"line-0", b"bad")
    (tmp_path / "in.jsonl").write_bytes(chat_lines(40) + bad)
    os.mkfifo(tmp_path / "nobody-reads")
    same = ["-i", "in.jsonl", "--errors", "bad.jsonl", "--state", "state", "--engine", sim.url]
    command = [sys.executable, "-m", "batchmill", "run", *same, "-o", "nobody-reads"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE)
    eventually((tmp_path / "bad.jsonl").exists, 60, "the first of the files")
    process.kill()
    process.communicate()
    return same


def test_a_run_that_was_killed_as_it_handed_out_goes_on_by_itself(sim: Sim, tmp_path: Path) -> None:
    same = killed_as_it_handed_out(sim, tmp_path)
    done = run(*same, "-o", "out.jsonl", folder=tmp_path)
    assert done.returncode == UNANSWERED, done.stderr
    assert ids(tmp_path / "bad.jsonl") == ["bad"]
    assert ids(tmp_path / "out.jsonl") == IDS
    assert not (tmp_path / "state").exists()


def test_a_file_that_was_put_over_one_of_a_killed_run_is_not_replaced(
    sim: Sim, tmp_path: Path
) -> None:
    same = killed_as_it_handed_out(sim, tmp_path)
    (tmp_path / "bad.jsonl").write_text("precious")
    done = run(*same, "-o", "out.jsonl", folder=tmp_path)
    assert done.returncode == 1
    assert (
        b"bad.jsonl exists already; name another file, or replace it with --force." in done.stderr
    )
    assert (tmp_path / "bad.jsonl").read_text() == "precious"
    done = run(*same, "-o", "out.jsonl", "--force", folder=tmp_path)
    assert done.returncode == UNANSWERED, done.stderr
    assert ids(tmp_path / "bad.jsonl") == ["bad"]


def test_results_of_a_kept_run_are_written_again_unless_they_were_edited(
    sim: Sim, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_bytes(chat_lines(40))
    same = ["-i", "in.jsonl", "-o", "out.jsonl", "--engine", sim.url, "--keep"]
    for _ in range(2):
        done = run(*same, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    with (tmp_path / "out.jsonl").open("a") as file:
        file.write("my note")
    done = run(*same, folder=tmp_path)
    assert done.returncode == 1
    assert b"out.jsonl exists already" in done.stderr
    assert (tmp_path / "out.jsonl").read_text().endswith("my note")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_ends_a_run_whose_standard_input_stays_open(
    number: signal.Signals, sim: Sim, tmp_path: Path
) -> None:
    with begun(tmp_path, "-i", "-", "-o", "-", "--engine", sim.url) as (process, said):
        assert b"cannot go on later" in said.readline()
        assert b"taking the input in" in said.readline()
        process.send_signal(number)
        assert process.wait(30) == 130
        assert b"stopping" in said.readline()
        assert b"Traceback" not in said.read()


def test_a_second_interrupt_leaves_at_once(sim: Sim, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(chat_lines(1, "!fault:slow=60 {n}"))
    before = sim.calls()["total"]
    with begun(tmp_path, "-i", "in.jsonl", "-o", "x", "--engine", sim.url) as (process, said):
        eventually(lambda: sim.calls()["total"] > before, 60, "the call")
        process.send_signal(signal.SIGINT)
        while b"stopping" not in said.readline():
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert b"left at once; the same command goes on" in said.read()


@contextmanager
def begun(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], BinaryIO]]:
    """A run that is under way, with its standard input open, and what it says."""
    process = subprocess.Popen(
        [sys.executable, "-m", "batchmill", "run", *arguments],
        cwd=folder,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"BATCHMILL_DRAIN_TIME": "60s"},
    )
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        with process.stdin, process.stderr as said:
            yield process, cast(BinaryIO, said)
    finally:
        process.kill()
        process.wait()


def test_a_flag_of_the_engine_is_refused_with_where_it_belongs(sim: Sim, tmp_path: Path) -> None:
    flags = ["--tensor-parallel-size", "2", "--engine", sim.url]
    done = run("-i", "in.jsonl", "-o", "out.jsonl", *flags, folder=tmp_path)
    assert done.returncode == 2
    assert b"--tensor-parallel-size: is a setting of the engine" in done.stderr
