"""Malformed input of every kind, as one table: each has an exact status, code, param and line;
none is a 5xx, none leaves a file, a blob or a job behind."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.service.corpus import CASES, FILES, GOOD, GOOD_LINE, JOBS, LINES, Case
from tests.service.rig import Rig, open_rig


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """One rig for the whole table: nothing that is refused leaves a trace."""
    async with open_rig(tmp_path_factory.mktemp("malformed")) as rig:
        yield rig


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_malformed_requests_are_told_exactly(shared: Rig, case: Case) -> None:
    rig = shared
    reply = await rig.call(case.method, case.path, content=case.content, headers=dict(case.headers))
    body = reply.json()
    told = (reply.status_code, body["code"], body["param"], body.get("line"))
    assert told == (case.status, case.code, case.param, case.line), body["message"]
    assert body["error"] == {key: body[key] for key in ("message", "type", "param", "code")}
    assert body["message"]
    assert ("detail" in body) == (case.status == 422)
    assert (await rig.get(JOBS))["total"] == 0
    assert (await rig.get(FILES))["total"] == 0
    assert rig.stored_files() == []


def test_the_corpus_is_large_and_names_differ() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) >= 60


@pytest.mark.parametrize(("name", "bad", "code", "param"), LINES, ids=[each[0] for each in LINES])
async def test_bad_lines_fail_their_job_with_line_code_and_param(
    rig: Rig, name: str, bad: bytes, code: str, param: str | None
) -> None:
    file = await rig.upload(GOOD_LINE + b"\n\n" + bad + b"\n")
    job = await rig.create(input_files=[file["id"]])
    await rig.validate(await rig.worker())
    done = await rig.get(f"{JOBS}/{job['id']}")
    assert done["status"] == "FAILED"
    (error,) = done["errors"]
    assert error["message"].startswith("Line 3: ")
    assert error["message"].endswith(f"[{code}]")
    known = await rig.ledger.job("default", job["id"])
    assert known is not None
    (kept,) = known.errors
    assert (kept.line, kept.code, kept.param) == (3, code, param)


async def test_duplicate_ids_of_inline_requests_fail_as_in_files(rig: Rig) -> None:
    job = await rig.create(requests=[{"custom_id": "a", "body": {}}] * 2)
    await rig.validate(await rig.worker())
    done = await rig.get(f"{JOBS}/{job['id']}")
    assert done["status"] == "FAILED"
    assert "[duplicate_custom_id]" in done["errors"][0]["message"]


async def test_files_of_another_purpose_are_no_input(rig: Rig) -> None:
    file = await rig.upload(GOOD, purpose="fine-tune")
    asked = {"endpoint": "/v1/ocr", "model": "small", "input_files": [file["id"]]}
    reply = await rig.call("POST", JOBS, json=asked)
    assert (reply.status_code, reply.json()["param"]) == (422, "input_files.0")
