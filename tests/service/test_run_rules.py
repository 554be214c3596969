"""What a run refuses, notices and goes on with; in this process, over one simulator."""

from __future__ import annotations

import asyncio
import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from batchmill.app.run.conduct import Ended, conduct
from batchmill.app.run.tablewanted import TableWanted
from batchmill.app.run.wanted import Wanted
from batchmill.config import load
from batchmill.errors import BatchmillError, ConfigError, UserError
from batchmill.model import OnInvalid
from batchmill.tables.answers import Standing
from batchmill.tables.policies import OnBadAnswer
from batchmill.tables.rows import Format
from tests.runs import ids, objects
from tests.serving import Sim, as_openai, chat_lines, simulating


@pytest.fixture(scope="module")
def sim() -> Iterator[Sim]:
    with simulating("models=sim|other") as sim:
        yield sim


@contextmanager
def keeping(content: bytes) -> Iterator[tuple[str, dict[str, bytes]]]:
    """A web server that gives this content and keeps what is put; the first PUT it refuses."""
    kept: dict[str, bytes] = {}
    tries: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def knows(self) -> bool:
            """Whether it may be answered: what is private needs u with the password p:w."""
            basic = "Basic " + b64encode(b"u:p:w").decode()
            if not self.path.startswith("/private") or self.headers["authorization"] == basic:
                return True
            self.send_response(401)
            self.end_headers()
            return False

        def do_GET(self) -> None:
            if not self.knows():
                return
            self.send_response(200)
            if self.path.startswith("/cut"):
                self.send_header("Content-Length", str(len(content) + 100))
            self.end_headers()
            self.wfile.write(content)

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if not self.knows():
                return
            tries.append(self.path)
            self.send_response(503 if len(tries) == 1 else 201)
            self.end_headers()
            if len(tries) > 1:
                kept[self.path] = body

        def log_message(self, *arguments: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Watcher:
    """Hears a run, and stops it once so many lines are done."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    stop_at: int | None = None
    lines: list[str] = field(default_factory=list)

    def said(self, line: str) -> None:
        self.lines.append(line)

    def looked(self, job: Any, progress: Any, engines: Any) -> None:
        if job is not None and self.stop_at is not None and job.total - job.left >= self.stop_at:
            self.stop.set()


def wanted(folder: Path, sim: Sim, **fields: Any) -> Wanted:
    fields = {"input": folder / "in.jsonl", "output": folder / "out.jsonl", "model": "sim"} | fields
    fields |= {name: str(fields[name]) for name in ("input", "output")}
    engines = fields.pop("engines", (sim.url,))
    return Wanted(settings=load({"engines": engines}, {}), **fields)


async def ran(wanted: Wanted, watcher: Watcher | None = None) -> Ended:
    watcher = watcher or Watcher()
    return await conduct(wanted, watcher, watcher.stop)


def write_lines(folder: Path, count: int = 20) -> None:
    (folder / "in.jsonl").write_bytes(chat_lines(count))


async def stopped_halfway(folder: Path, sim: Sim, **fields: Any) -> Wanted:
    write_lines(folder, 400)
    asked = wanted(folder, sim, **fields)
    sim.control(latency="20ms")
    ended = await ran(asked, Watcher(stop_at=1))
    sim.control(latency="0")
    assert ended.is_interrupted
    assert not (folder / "out.jsonl").exists()
    return asked


async def test_a_user_and_a_password_of_a_url_are_sent_and_not_shown(
    sim: Sim, tmp_path: Path
) -> None:
    with keeping(chat_lines(3)) as (url, kept):
        private = url.replace("//", "//u:p%3Aw@") + "/private"
        places = {"input": f"{private}/in", "output": f"{private}/out"}
        ended = await ran(wanted(tmp_path, sim, state=tmp_path / "state", **places))
    assert ended.handed is not None
    assert "p%3Aw" not in ended.handed.output
    assert len(kept["/private/out"].splitlines()) == 3


async def test_a_stopped_run_goes_on_and_asks_nothing_twice(sim: Sim, tmp_path: Path) -> None:
    before = sim.calls()["total"]
    asked = await stopped_halfway(tmp_path, sim)
    watcher = Watcher()
    ended = await ran(asked, watcher)
    assert not ended.is_interrupted
    assert "going on where it was" in watcher.lines[0]
    assert ids(tmp_path / "out.jsonl") == [f"line-{n}" for n in range(400)]
    assert sim.calls()["total"] - before == 400
    assert not (tmp_path / "out.jsonl.batchmill").exists()


async def test_a_change_is_named_with_the_way_on_and_restart_begins_anew(
    sim: Sim, tmp_path: Path
) -> None:
    asked = await stopped_halfway(tmp_path, sim)
    with pytest.raises(UserError, match=r"--model was sim and is other.*--restart"):
        await ran(replace(asked, model="other"))
    with pytest.raises(UserError, match=r"was http.* and is http.*--accept-changes"):
        await ran(replace(asked, settings=load({"engines": (sim.url + "/x",)}, {})))
    with pytest.raises(UserError, match=r"begun with -i .*in\.jsonl"):
        await ran(replace(asked, input=str(tmp_path / "other.jsonl")))
    write_lines(tmp_path, 30)
    with pytest.raises(UserError, match=r"in\.jsonl has changed since.*--restart"):
        await ran(asked)
    await ran(replace(asked, restart=True, model="other"))
    assert len(ids(tmp_path / "out.jsonl")) == 30


async def test_two_runs_at_once_on_one_output_are_refused(sim: Sim, tmp_path: Path) -> None:
    write_lines(tmp_path, 200)
    asked, watcher = wanted(tmp_path, sim), Watcher()
    sim.control(latency="50ms")
    first = asyncio.ensure_future(ran(asked, watcher))
    while not (tmp_path / "out.jsonl.batchmill" / "ledger.sqlite").exists():
        await asyncio.sleep(0.01)
    with pytest.raises(ConfigError, match="in use by another batchmill run"):
        await ran(asked)
    watcher.stop.set()
    await first
    sim.control(latency="0")


async def test_an_output_that_exists_is_replaced_only_by_force(sim: Sim, tmp_path: Path) -> None:
    write_lines(tmp_path)
    (tmp_path / "out.jsonl").write_text("precious")
    with pytest.raises(UserError, match=r"out\.jsonl exists already.*--force"):
        await ran(wanted(tmp_path, sim))
    assert (tmp_path / "out.jsonl").read_text() == "precious"
    assert [each.name for each in sorted(tmp_path.iterdir())] == ["in.jsonl", "out.jsonl"]
    await ran(wanted(tmp_path, sim, force=True))
    assert len(ids(tmp_path / "out.jsonl")) == 20


@pytest.mark.parametrize("name", ["out.jsonl", "out.errors.jsonl"])
async def test_a_run_that_goes_on_replaces_no_file_of_its_user(
    name: str, sim: Sim, tmp_path: Path
) -> None:
    asked = await stopped_halfway(tmp_path, sim)
    (tmp_path / name).write_text("precious")
    before = sim.calls()["total"]
    with pytest.raises(
        UserError, match=r"exists already.*--force.*stays in .*out\.jsonl\.batchmill"
    ):
        await ran(asked)
    assert (tmp_path / name).read_text() == "precious"
    assert sim.calls()["total"] == before
    await ran(replace(asked, force=True))
    assert len(ids(tmp_path / "out.jsonl")) == 400
    assert not (tmp_path / "out.errors.jsonl").exists()


async def test_a_run_that_goes_on_to_another_output_replaces_none_either(
    sim: Sim, tmp_path: Path
) -> None:
    asked = await stopped_halfway(tmp_path, sim, state=tmp_path / "state")
    (tmp_path / "other.jsonl").write_text("precious")
    with pytest.raises(UserError, match=r"other\.jsonl exists already"):
        await ran(replace(asked, output=str(tmp_path / "other.jsonl")))
    assert (tmp_path / "other.jsonl").read_text() == "precious"
    await ran(replace(asked, output=str(tmp_path / "third.jsonl")))
    assert len(ids(tmp_path / "third.jsonl")) == 400


@dataclass
class Meddler(Watcher):
    """Puts a file where results will go, while the lines are asked."""

    place: Path = Path()

    def looked(self, job: Any, progress: Any, engines: Any) -> None:
        if job is not None and not self.place.exists():
            self.place.write_text("precious")


@pytest.mark.parametrize("name", ["out.jsonl", "out.errors.jsonl"])
async def test_a_file_that_appears_meanwhile_stays_and_so_do_the_answers(
    name: str, sim: Sim, tmp_path: Path
) -> None:
    write_lines(tmp_path)
    asked = wanted(tmp_path, sim)
    with pytest.raises(UserError, match="exists already"):
        await ran(asked, Meddler(place=tmp_path / name))
    assert (tmp_path / name).read_text() == "precious"
    before = sim.calls()["total"]
    state = tmp_path / "out.jsonl.batchmill"
    await ran(replace(asked, output=str(tmp_path / "other.jsonl"), state=state))
    assert len(ids(tmp_path / "other.jsonl")) == 20
    assert sim.calls()["total"] == before


async def test_answers_of_a_run_without_a_place_for_its_state_are_not_lost_by_a_refusal(
    sim: Sim, tmp_path: Path
) -> None:
    write_lines(tmp_path)
    asked = wanted(tmp_path, sim, output="-", errors=str(tmp_path / "bad.jsonl"))
    with pytest.raises(UserError, match="exists already") as refusal:
        await ran(asked, Meddler(place=tmp_path / "bad.jsonl"))
    before = sim.calls()["total"]
    state = Path(str(refusal.value).rpartition("--state ")[2].rstrip("."))
    await ran(wanted(tmp_path, sim, state=state))
    assert len(ids(tmp_path / "out.jsonl")) == 20
    assert sim.calls()["total"] == before
    assert not state.exists()


async def test_failed_lines_stand_beside_the_output(sim: Sim, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(
        chat_lines(4) + chat_lines(1, "!status:422").replace(b"line-0", b"bad")
    )
    ended = await ran(wanted(tmp_path, sim))
    assert ended.handed is not None
    assert ended.handed.errors == str(tmp_path / "out.errors.jsonl")
    assert ids(tmp_path / "out.errors.jsonl") == ["bad"]
    assert len(ids(tmp_path / "out.jsonl")) == 4


async def test_bad_lines_stop_all_or_fail_alone(sim: Sim, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(chat_lines(2) + b"nonsense\n")
    ended = await ran(wanted(tmp_path, sim))
    assert ended.handed is None
    assert ended.job is not None
    assert [error.line for error in ended.job.errors] == [3]
    assert not (tmp_path / "out.jsonl.batchmill").exists()
    await ran(wanted(tmp_path, sim, on_invalid=OnInvalid.QUARANTINE))
    assert len(objects(tmp_path / "out.errors.jsonl")) == 1


async def test_a_model_given_stands_for_what_the_lines_name(sim: Sim, tmp_path: Path) -> None:
    lines = as_openai(chat_lines(3)).replace(b'"sim"', b'"gpt-elsewhere"')
    (tmp_path / "in.jsonl").write_bytes(lines)
    with pytest.raises(UserError, match=r"'gpt-elsewhere', and no engine serves it.*other, sim"):
        await ran(wanted(tmp_path, sim, model=None))
    await ran(wanted(tmp_path, sim, model="other"))
    models = {line["response"]["body"]["model"] for line in objects(tmp_path / "out.jsonl")}
    assert models == {"other"}


async def test_lines_without_a_model_need_one_where_there_are_several(
    sim: Sim, tmp_path: Path
) -> None:
    write_lines(tmp_path)
    with pytest.raises(UserError, match=r"--model: other, sim"):
        await ran(wanted(tmp_path, sim, model=None))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"input": "nowhere.jsonl"}, "no input file"),
        ({"input": "."}, "is a directory"),
        ({"output": "nowhere/out.jsonl"}, "no directory"),
        ({"output": "in.jsonl"}, "is the input"),
        ({"state": "in.jsonl"}, "needs a directory"),
        ({"engines": ()}, "none is given"),
    ],
)
async def test_what_cannot_be_is_told_in_one_sentence(
    fields: dict[str, Any], says: str, sim: Sim, tmp_path: Path
) -> None:
    write_lines(tmp_path)
    places = {k: tmp_path / v if isinstance(v, str) else v for k, v in fields.items()}
    with pytest.raises(BatchmillError, match=says):
        await ran(wanted(tmp_path, sim, **places))
    assert [each.name for each in tmp_path.iterdir()] == ["in.jsonl"]


async def test_an_input_is_fetched_from_a_url_and_the_results_are_put_to_one(
    sim: Sim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with keeping(chat_lines(20)) as (url, kept):
        there = f"{url}/in.jsonl?secret=s", f"{url}/out.jsonl?secret=s"
        ended = await ran(wanted(tmp_path, sim, input=there[0], output=there[1]))
    assert ended.handed is not None
    assert ended.handed.output == f"{url}/out.jsonl"
    assert len(kept["/out.jsonl?secret=s"].splitlines()) == 20
    assert list(tmp_path.iterdir()) == []


async def test_an_input_that_breaks_off_on_its_way_is_none(
    sim: Sim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    says = "broke off 100 bytes before its end"
    with keeping(chat_lines(20)) as (url, _), pytest.raises(UserError, match=says):
        await ran(wanted(tmp_path, sim, input=f"{url}/cut.jsonl"))
    assert list(tmp_path.iterdir()) == []


async def test_a_row_that_is_no_request_asks_for_a_prompt(sim: Sim, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": 1, "text": "x"}\n')
    with pytest.raises(UserError, match=r"--prompt.*columns are id, text"):
        await ran(wanted(tmp_path, sim))


def table(**fields: Any) -> TableWanted:
    return TableWanted(**{"prompt": "{{q}}", "input_format": Format.CSV} | fields)


async def test_rows_come_back_in_their_order_with_nulls_where_they_failed(
    sim: Sim, tmp_path: Path
) -> None:
    asked = [f"question {n}" if n % 7 else "!status:422" for n in range(50)]
    (tmp_path / "in.csv").write_text("n,q\n" + "".join(f"{n},{q}\n" for n, q in enumerate(asked)))
    rows = table(output_format=Format.JSONL)
    ended = await ran(wanted(tmp_path, sim, input=tmp_path / "in.csv", table=rows))
    assert ended.handed is not None
    assert ended.handed.standing == {Standing.OK: 42, Standing.FAILED: 8}
    found = objects(tmp_path / "out.jsonl")
    assert [row["n"] for row in found] == [str(n) for n in range(50)]
    for row, question in zip(found, asked, strict=True):
        is_failed = question.startswith("!")
        assert row["status"] == ("failed" if is_failed else "ok")
        assert (row["response"] is None) == (row["error"] is not None) == is_failed
        assert is_failed or question in row["response"]


async def test_bad_answers_are_asked_again_and_then_are_errors(sim: Sim, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("q\nid:again-1\nid:again-2\n")
    rows = table(
        output_format=Format.JSON, schema={"type": "object"}, on_bad_answer=OnBadAnswer.RETRY
    )
    out = tmp_path / "out.json"
    ended = await ran(wanted(tmp_path, sim, input=tmp_path / "in.csv", output=out, table=rows))
    assert ended.handed is not None
    assert ended.handed.has_errors
    found = json.loads(out.read_bytes())
    assert [row["status"] for row in found] == ["invalid_schema"] * 2
    assert all(row["response"] is None and "not JSON" in row["error"] for row in found)
    calls = sim.calls()["by_id"]
    assert (calls["again-1"], calls["again-2"]) == (3, 3)


async def test_a_column_that_cannot_be_written_is_told_before_anything_is_asked(
    sim: Sim, tmp_path: Path
) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"q": ["a"], "far": arrow.array([2**62], arrow.timestamp("us"))}
    parquet.write_table(arrow.table(columns), tmp_path / "in.parquet")
    rows = table(input_format=Format.PARQUET, output_format=Format.CSV, prompt="{{q}}")
    before = sim.calls()["total"]
    with pytest.raises(UserError, match=r"after row 0: date value out of range\. Write Parquet"):
        await ran(wanted(tmp_path, sim, input=tmp_path / "in.parquet", table=rows))
    assert sim.calls()["total"] == before


async def test_parquet_keeps_its_types_there_and_back(sim: Sim, tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    numbers = arrow.array(range(2000), arrow.int16())
    stamps = arrow.array([10**18 + n for n in range(2000)], arrow.timestamp("ns"))
    source = arrow.table({"q": numbers, "at": stamps, "nothing": arrow.nulls(2000)})
    parquet.write_table(source, tmp_path / "in.parquet", row_group_size=300)
    rows = table(input_format=Format.PARQUET, output_format=Format.PARQUET, prompt="no {{q}} ")
    out = tmp_path / "out.parquet"
    await ran(wanted(tmp_path, sim, input=tmp_path / "in.parquet", output=out, table=rows))
    found = parquet.read_table(out)
    assert found.select(["q", "at", "nothing"]) == source
    answers = found.column("response").to_pylist()
    assert all(f"no {n} " in answer for n, answer in enumerate(answers))
