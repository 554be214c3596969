"""What the commands do, say and leave with, against a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchmill.cli.submitted import Notes
from tests.service.cli.conftest import Command
from tests.serving import Serve, chat_lines

SLOW = b'{"custom_id":"s","body":{"messages":[{"role":"user","content":"!fault:slow=600"}]}}\n'


def some(path: Path, count: int = 5, text: str = "question {n}") -> str:
    path.write_bytes(chat_lines(count, text))
    return path.name


def mixed(path: Path) -> str:
    lines = [json.loads(line) for line in chat_lines(12).splitlines()]
    for n in (3, 7):
        lines[n]["body"]["messages"][0]["content"] += " !status:422"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path.name


def test_from_a_file_to_its_results(command: Command, tmp_path: Path) -> None:
    name = some(tmp_path / "in.jsonl")
    made = command("submit", name, "--watch")
    assert made.code == 0
    [job] = made.objects
    assert job["status"] == "SUCCESS"
    assert f"batchmill results {job['id']}" in made.err
    for which in (job["id"], job["id"][:13], "batch_" + job["id"].replace("-", ""), name, "@last"):
        assert command("get", which).objects[0]["id"] == job["id"]
    found = command("results", name)
    assert [each["custom_id"] for each in found.objects] == [f"line-{n}" for n in range(5)]
    assert found.code == 0


def test_only_the_id_is_printed_where_that_was_asked_for(command: Command, tmp_path: Path) -> None:
    made = command("submit", some(tmp_path / "in.jsonl"), "-d")
    assert command("get", made.out.strip()).objects[0]["id"] == made.out.strip()


def test_failed_lines_are_told_grouped_and_joined(command: Command, tmp_path: Path) -> None:
    name = mixed(tmp_path / "in.jsonl")
    watched = command("submit", name, "--watch")
    assert watched.code == 3
    assert "10 of 12 lines answered, 2 failed" in watched.err
    [group] = command("errors", name).objects
    assert (group["count"], group["custom_ids"]) == (2, ["line-3", "line-7"])
    rows = [f"line-{n},{n}\n" for n in reversed(range(12))]
    Path("table.csv").write_text("key,n\n" + "".join(rows))
    joined = command("results", name, "--join", "table.csv", "--on", "key", "-o", "out.csv")
    assert joined.code == 3
    heads, *cells = [line.split(",") for line in Path("out.csv").read_text().splitlines()]
    assert heads == ["key", "n", "response", "status", "error", "usage"]
    assert [row[1] for row in cells] == [str(n) for n in reversed(range(12))]
    assert {row[1] for row in cells if row[3] == "422"} == {"3", "7"}


def test_a_line_with_two_ids_is_joined_to_its_own_row(command: Command, tmp_path: Path) -> None:
    body = '"body":{"messages":[{"role":"user","content":"hi"}]}}\n'
    starts = ('{"custom_id":"z","custom_id":"b",', '{"custom_id":"b",', '{"custom_id":"c",')
    (tmp_path / "in.jsonl").write_text("".join(start + body for start in starts))
    command("submit", "in.jsonl", "--watch", "--on-invalid", "quarantine")
    Path("table.csv").write_text("x\nbad\ngood\ngood\n")
    rows = command("results", "in.jsonl", "--join", "table.csv").out.splitlines()[1:]
    assert [row.split(",")[0] for row in rows if ",200," in row] == ["good", "good"]


def test_a_table_that_does_not_fit_is_refused(command: Command, tmp_path: Path) -> None:
    name = some(tmp_path / "in.jsonl")
    command("submit", name, "--watch")
    Path("table.jsonl").write_text('{"a":1}\n' * 4)
    refused = command("results", name, "--join", "table.jsonl")
    assert refused.code == 1
    assert "4 rows and the job 5 lines" in refused.err
    Path("other.csv").write_text("custom_id\nline-9\n")
    assert "is it this job's?" in command("results", name, "--join", "other.csv").err
    Path("part.csv").write_text("custom_id\nline-3\n")
    part = command("results", name, "--join", "part.csv")
    assert part.code == 0
    assert "4 results of the job belong to no row" in part.err


def test_bad_lines_are_not_sent(command: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(chat_lines(2) + b"nonsense\n")
    before = len(command("ls", "-a").objects)
    refused = command("submit", "bad.jsonl", "-m", "sim")
    assert refused.code == 1
    [error] = refused.objects
    assert (error["line"], error["code"]) == (3, "invalid_json_line")
    assert len(command("ls", "-a").objects) == before
    taken = command("submit", "bad.jsonl", "-m", "sim", "--on-invalid", "quarantine", "--watch")
    assert taken.code == 3


def test_a_submit_that_was_cut_off_goes_on_with_the_same_job(
    command: Command, tmp_path: Path
) -> None:
    name = some(tmp_path / "in.jsonl")
    first = command("submit", name, "-d").out
    notes = tmp_path / "state" / "batchmill" / "submitted.jsonl"
    lines = notes.read_text().splitlines(keepends=True)
    assert len(lines) == 3
    notes.write_text("".join(lines[:2]))
    again = command("submit", name, "-d")
    assert again.out == first
    assert "going on with it" in again.err
    assert command("submit", name, "-d").out != first


def test_a_cut_off_submit_whose_upload_was_deleted_sends_the_file_once_more(
    command: Command, tmp_path: Path
) -> None:
    name = some(tmp_path / "in.jsonl")
    [first] = command("submit", name, "--watch").objects
    notes = tmp_path / "state" / "batchmill" / "submitted.jsonl"
    cut_off = "".join(notes.read_text().splitlines(keepends=True)[:2])
    notes.write_text(cut_off)
    assert command("files", "rm", first["input_files"][0]).code == 0
    assert command("submit", name, "-d").out.strip() == first["id"]
    notes.write_text(cut_off)
    assert command("rm", first["id"]).code == 0
    again = command("submit", name, "--watch")
    assert again.code == 0
    assert "deleted; sending the file once more" in again.err
    assert again.objects[0]["id"] != first["id"]


def test_last_is_also_what_was_made_of_an_uploaded_file_or_by_a_retry(
    command: Command, tmp_path: Path
) -> None:
    command("submit", mixed(tmp_path / "in.jsonl"), "-d", "--watch")
    [first] = command("get", "@last", "--json").objects
    second = command("submit", first["input_files"][0], "-d").out.strip()
    assert command("get", "@last", "--json").objects[0]["id"] == second
    third = command("retry", first["id"], "-d").out.strip()
    assert command("get", "@last", "--json").objects[0]["id"] == third
    assert len({first["id"], second, third}) == 3


def test_notes_are_bounded_and_a_damaged_one_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "submitted.jsonl"
    note = {"key": "", "path": "p", "url": "u", "wish": "w", "at": 0.0, "file": None, "job": "j"}
    lines = [json.dumps({**note, "key": str(n), "job": f"j{n}"}) + "\n" for n in range(30_000)]
    path.write_text("{damaged\n" + "".join(lines))
    notes = Notes(tmp_path)
    assert notes.job_of("p", "u") == "j29999"
    found = notes.unfinished("w", 0.0)
    assert found is None
    notes.write(notes._all()[-1])
    assert len(path.read_text().splitlines()) == 1_001


@pytest.fixture
def ctrl_c_heard() -> Iterator[None]:
    """As at a terminal: what a shell starts in its background ignores it, its children too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_heard")
def test_ctrl_c_ends_the_watching_and_not_the_job(
    command: Command, tmp_path: Path, served: Serve
) -> None:
    (tmp_path / "slow.jsonl").write_bytes(SLOW)
    job = command("submit", "slow.jsonl", "-m", "sim", "-d").out.strip()
    program = [sys.executable, "-m", "batchmill", "watch", job]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stderr is not None
        assert "0/1" in watching.stderr.readline()
        watching.send_signal(signal.SIGINT)
        said = watching.stderr.read()
    assert watching.returncode == 130
    assert f"batchmill watch {job}" in said
    assert served.job(job)["status"] in {"QUEUED", "RUNNING"}
    assert command("pause", "slow.jsonl").objects[0]["paused"] is True
    assert command("resume", "@last").objects[0]["paused"] is False
    assert command("extend", "@last", "7d").objects[0]["window"] == "7d"
    assert "cancels and deletes" in command("rm", "@last").err
    assert command("cancel", "@last").code == 0
    assert command("watch", "@last").code == 3
    assert command("rm", job).code == 0
    assert command("get", job).code == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["get", "00000000-0000-4000-8000-000000000000"], 1, "No batch job found"),
        (["get", "a/../../v1/models"], 1, "neither an id"),
        (["get", "abcd"], 1, "`batchmill ls`"),
        (["ls", "--url", "http://127.0.0.1:1"], 1, "batchmill serve"),
        (["ls", "--url", "nowhere"], 2, "should be a URL"),
        (["ls", "--nonsense"], 2, "--nonsense"),
        (["submit", "nothing.jsonl"], 1, "No such file"),
        (["submit", "."], 1, "Is a directory"),
        (["files", "get", "nothing"], 1, "No such File"),
        (["submit", "in.jsonl", "--metadata", "x"], 2, "KEY=VALUE"),
        (["gc", "--older-than", "soon"], 2, "duration"),
        (["extend", "@last", "soon"], 1, "from 30m to 30d"),
        (["results", "in.jsonl", "-o", "/dev/full"], 1, "No space left"),
        (["results", "in.jsonl", "-o", "no/such/place"], 1, "No such file"),
        (["results", "in.jsonl", "-o", "."], 1, "is a directory"),
        (["results", "in.jsonl", "--join", "t.xlsx"], 1, "batchmill run"),
        (["retry", "in.jsonl"], 1, "retried"),
    ],
)
def test_every_mistake_is_one_line_with_the_next_step(
    arguments: list[str], code: int, says: str, command: Command, tmp_path: Path
) -> None:
    if "in.jsonl" in arguments or "@last" in arguments:
        command("submit", some(tmp_path / "in.jsonl"), "--watch")
    failed = command(*arguments)
    assert failed.code == code, failed
    assert says in failed.err
    assert "Traceback" not in failed.err
    assert failed.out == ""


def test_what_is_not_batchmill_is_named(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(web, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as other:
        assert other.stdout is not None
        port = other.stdout.readline().split()[5].decode()
        failed = command("ls", "--url", f"http://127.0.0.1:{port}")
        sick = command("doctor", "--url", f"http://127.0.0.1:{port}")
        other.kill()
    assert failed.code == 1
    assert "not Batchmill" in failed.err
    assert sick.code == 1
    assert sick.objects[0]["state"] == "fail"


def test_a_reader_that_leaves_is_no_error_to_shout_about(command: Command, tmp_path: Path) -> None:
    command("submit", some(tmp_path / "in.jsonl", 2_000), "--watch")
    program = f"{sys.executable} -m batchmill results @last | head -1"
    done = subprocess.run(program, shell=True, capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


def test_files_come_and_go(command: Command, tmp_path: Path) -> None:
    name = some(tmp_path / "in.jsonl")
    file = command("files", "upload", name, "-d").out.strip()
    assert command("files", "get", file).out == (tmp_path / name).read_text()
    assert file in {each["id"] for each in command("files", "ls").objects}
    assert command("submit", file, "-m", "sim", "--watch").code == 0
    old = command("gc", "--older-than", "0s", "--purpose", "batch", "--dry-run")
    assert file in {each["id"] for each in old.objects}
    assert command("files", "rm", file).code == 0
    assert command("files", "get", file).code == 1


def test_an_estimate_says_unknown_and_then_what_was_measured(
    command: Command, tmp_path: Path
) -> None:
    name = some(tmp_path / "in.jsonl", 30)
    [blind] = command("estimate", name, "-m", "never-asked").objects
    assert (blind["seconds"], blind["output_tokens"], blind["price"]) == (None, None, None)
    command("submit", name, "-m", "sim", "--watch")
    prices = ["--input-price", "1", "--output-price", "2"]
    [told] = command("estimate", name, "-m", "sim", *prices).objects
    assert told["seconds"] > 0
    assert told["price"] == (told["input_tokens"] + 2 * told["output_tokens"]) / 1e6


def test_doctor_workers_engines_and_models_tell_of_the_server(command: Command) -> None:
    well = command("doctor")
    assert well.code == 0
    assert {each["state"] for each in well.objects} == {"ok", "warn"}
    [worker] = [each for each in command("workers").objects if each["alive"]]
    assert worker["engines"][0]["name"] == "sim"
    assert command("engines").objects[0]["state"] == "up"
    assert [each["id"] for each in command("models").objects] == ["sim"]


def test_results_follow_a_job_through_a_restart_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also shows that waiting outlasts it."""
    from batchmill import Client

    serve = Serve(tmp_path / "data", "--engine", "sim:latency=100ms,batch=32").start()
    try:
        with Client(f"http://127.0.0.1:{serve.port}") as client:
            job = client.submit(chat_lines(600), model="sim")
            came = []
            for result in client.results(job, order="completion", follow=True):
                came.append(result.custom_id)
                if len(came) == 100:
                    serve.kill()
                    time.sleep(0.2)
                    serve.start()
            assert client.wait(job).is_whole
        assert sorted(came) == sorted(f"line-{n}" for n in range(600))
    finally:
        serve.kill()


def test_a_state_directory_that_cannot_be_written_is_no_error(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", os.devnull)
    assert command("submit", some(tmp_path / "in.jsonl"), "--watch").code == 0
    assert command("get", "@last").code == 0
