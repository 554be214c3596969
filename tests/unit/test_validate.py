"""Validation of whole files: what is bad, where, and how the rest is planned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchmill.blobs.local import LocalBlobs
from batchmill.core.lines import BOM, LineRules, ShardSize, open_line, spans
from batchmill.core.names import input_name, order_name
from batchmill.core.order import ShardOrder
from batchmill.core.repeats import CustomIds, mark_repeats
from batchmill.core.tally import ErrorTally
from batchmill.core.validate import validate
from batchmill.errors import BlobMissing
from batchmill.model import BlobName, Dialect, FileId, Job, JobId, JobInput, JobState, TenantId
from batchmill.ports import Plan, Range

CHAT = "/v1/chat/completions"
SMALL = LineRules(
    can_serve={"m"}.__contains__, max_line_bytes=5000, max_lines=500, shard=ShardSize(4, 1000)
)


def job(dialect: Dialect = Dialect.MISTRAL) -> Job:
    return Job(
        id=JobId("j1"),
        tenant=TenantId("t"),
        dialect=dialect,
        endpoint=CHAT,
        state=JobState.VALIDATING,
        created_at=0.0,
        deadline=0.0,
        total=1,
        model="m" if dialect is Dialect.MISTRAL else None,
    )


def line(custom_id: object = "a", **more: object) -> bytes:
    return json.dumps({"custom_id": custom_id, "body": {"messages": []}, **more}).encode()


def openai_line(custom_id: object = "a", model: object = "m", **more: object) -> bytes:
    body = {"model": model, "messages": []}
    return line(custom_id, **{"method": "POST", "url": CHAT, "body": body, **more})


@dataclass
class Shop:
    """A blob store with some files, and what validating them gives."""

    blobs: LocalBlobs

    async def validate(
        self,
        *files: bytes,
        rules: LineRules = SMALL,
        job: Job = job(),  # noqa: B008
    ) -> Plan:
        self.inputs = await self.put(files)
        return await validate(job, self.inputs, self.blobs, rules)

    async def put(self, files: Sequence[bytes]) -> list[JobInput]:
        inputs = [
            JobInput(FileId(f"f{n}"), f"file{n}.jsonl", input_name(FileId(f"f{n}")), len(data), 0)
            for n, data in enumerate(files)
        ]
        await self.blobs.put_many(
            [(place.blob, [data]) for place, data in zip(inputs, files, strict=True)]
        )
        return inputs

    async def order(self, n: int) -> ShardOrder:
        pieces = [piece async for piece in self.blobs.read(order_name(JobId("j1"), n))]
        return ShardOrder.decode(b"".join(pieces))

    async def planned(self, plan: Plan) -> list[tuple[bytes | None, bytes, str | None]]:
        """Per line of the plan: its bytes, the custom_id it will be answered with, its error."""
        found = []
        for shard in plan.shards:
            where = Range(self.inputs[shard.input].blob, shard.offset, shard.length)
            [data] = await self.blobs.read_ranges([where])
            order = await self.order(shard.n)
            assert order.lines == shard.lines
            assert shard.first_line == len(found)
            for span in spans(data, shard):
                raw = data[span.start : span.end]
                bad = order.bad.get(span.local)
                custom_id = bad.custom_id if bad else open_line(raw)[0]
                found.append((raw, custom_id, bad.error.code if bad else None))
        assert len(found) == plan.lines
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(LocalBlobs(tmp_path))


def errors_of(plan: Plan) -> list[tuple[int | None, str, str | None]]:
    return [(error.line, error.code, error.param) for error in plan.errors]


# ---- the corpus of files ----------------------------------------------------------------

A, B, C = line("a"), line("b"), line("c")
STREAM = line("s", body={"stream": True})

FILES = [
    pytest.param(A, [], 1, id="one line without a line break"),
    pytest.param(A + b"\n", [], 1, id="one line"),
    pytest.param(BOM + A + b"\n" + B, [], 2, id="BOM"),
    pytest.param(BOM + b"\n" + A, [], 1, id="BOM on a line alone"),
    pytest.param(A + b"\r\n" + B + b"\r\n", [], 2, id="CRLF"),
    pytest.param(b"\n\n" + A + b"\n \t\n\r\n" + B + b"\n\n\n", [], 2, id="blank lines"),
    pytest.param(A + b"\n" + BOM + B, [(2, "invalid_json_line", None)], 2, id="BOM later"),
    pytest.param(A + b"\r" + B, [(1, "invalid_json_line", None)], 1, id="CR alone"),
    pytest.param(A + b"\n\0\n" + B, [(2, "invalid_json_line", None)], 3, id="NUL"),
    pytest.param(A + b"\n\x0c\n", [(2, "invalid_json_line", None)], 2, id="form feed is not blank"),
    pytest.param(A + b"\n\xc2\x85\n", [(2, "invalid_json_line", None)], 2, id="NEL is not blank"),
    pytest.param(
        A + b"\n" + b'{"custom_id":"\xe9","body":{}}',
        [(2, "invalid_json_line", None)],
        2,
        id="Latin-1",
    ),
    pytest.param(
        A[:-1] + b"\n" + b"}",
        [(1, "invalid_json_line", None), (2, "invalid_json_line", None)],
        2,
        id="an object over two lines",
    ),
    pytest.param(
        b"[\n" + A + b",\n" + B + b"\n]",
        [
            (1, "invalid_json_line", None),
            (2, "invalid_json_line", None),
            (4, "invalid_json_line", None),
        ],
        4,
        id="a JSON array",
    ),
    pytest.param(
        b"custom_id,body\na,{}\n",
        [(1, "invalid_json_line", None), (2, "invalid_json_line", None)],
        2,
        id="CSV",
    ),
    pytest.param(A.decode().encode("utf-16"), [(1, "invalid_json_line", None)], 1, id="UTF-16"),
    pytest.param(
        b"\x1f\x8b\x08\x00\n\x00",
        [(1, "invalid_json_line", None), (2, "invalid_json_line", None)],
        2,
        id="gzip",
    ),
    pytest.param(A + b"\n" + B[:20], [(2, "invalid_json_line", None)], 2, id="cut in the middle"),
    pytest.param(
        A + b"\n\n" + A + b"\n" + B, [(3, "duplicate_custom_id", "custom_id")], 3, id="an id twice"
    ),
    pytest.param(
        b"\n".join([A] * 4),
        [(n, "duplicate_custom_id", "custom_id") for n in (2, 3, 4)],
        4,
        id="an id four times",
    ),
    pytest.param(
        A + b"\n" + rb'{"custom_id":"\u0061","body":{}}',
        [(2, "duplicate_custom_id", "custom_id")],
        2,
        id="an id twice, once escaped",
    ),
    pytest.param(
        line("é") + b"\n" + '{"custom_id":"é","body":{}}'.encode(),
        [(2, "duplicate_custom_id", "custom_id")],
        2,
        id="an id twice in two encodings",
    ),
    pytest.param(line("é") + b"\n" + line("e\u0301"), [], 2, id="ids are not normalised"),
    pytest.param(
        line("a") + b"\n" + line("A") + b"\n" + line("a "), [], 3, id="ids are compared as they are"
    ),
    pytest.param(
        STREAM + b"\n" + line("s"),
        [(1, "streaming_unsupported", "body.stream"), (2, "duplicate_custom_id", "custom_id")],
        2,
        id="a bad line's id counts",
    ),
    pytest.param(
        line("s") + b"\n" + STREAM,
        [(2, "streaming_unsupported", "body.stream")],
        2,
        id="a bad line has one error",
    ),
    pytest.param(
        line(7) + b"\n" + line(7),
        [(1, "invalid_type", "custom_id"), (2, "invalid_type", "custom_id")],
        2,
        id="numbers as ids",
    ),
    pytest.param(
        b'{"custom_id":"a"}\n{"body":{}}',
        [(1, "missing_required_parameter", "body"), (2, "missing_required_parameter", "custom_id")],
        2,
        id="missing fields",
    ),
    pytest.param(
        A + b"\n" + line("x" * 5000) + b"\n" + B,
        [(2, "invalid_request", None)],
        3,
        id="a line too long",
    ),
    pytest.param(A + b"\n" + b" " * 9000 + b"\n" + B, [], 2, id="a blank line too long"),
    pytest.param(
        A + b"\n" + b"[" * 4500, [(2, "invalid_json_line", None)], 2, id="nested without end"
    ),
    pytest.param(line("a", body={"x": "y" * 3000}) + b"\n" + B, [], 2, id="a line beyond a shard"),
]


@pytest.mark.parametrize(("data", "errors", "lines"), FILES)
async def test_each_bad_file_has_its_errors(
    shop: Shop, data: bytes, errors: list[tuple[int, str, str | None]], lines: int
) -> None:
    plan = await shop.validate(data)
    assert errors_of(plan) == errors
    assert (plan.errors_total, plan.lines) == (len(errors), lines)
    planned = await shop.planned(plan)
    assert [error for _, _, error in planned if error] == [code for _, code, _ in errors]
    ids = [custom_id for _, custom_id, _ in planned if custom_id != b"null"]
    assert len(ids) == len(set(map(json.loads, ids)))


@pytest.mark.parametrize("data", [b"", b"\n", b" \r\n\t\n", BOM, BOM + b"\n"])
async def test_a_job_without_lines_is_refused(shop: Shop, data: bytes) -> None:
    plan = await shop.validate(data, data)
    assert errors_of(plan) == [(None, "empty_file", None)]
    assert (plan.shards, plan.lines, plan.errors_total) == ((), 0, 1)


async def test_an_empty_file_beside_another_is_fine(shop: Shop) -> None:
    plan = await shop.validate(b"", A, b"\n", B)
    assert (plan.errors, plan.lines) == ((), 2)
    assert [shard.input for shard in plan.shards] == [1, 3]


async def test_openai_lines_need_method_url_and_a_model_that_is_served(shop: Shop) -> None:
    data = b"\n".join(
        [
            openai_line("1"),
            line("2"),
            openai_line("3", method="GET"),
            openai_line("4", url="/v1/embeddings"),
            openai_line("5", model="gpt-none"),
            openai_line("6", model=None),
            openai_line("7", body={"model": "m"}),
            openai_line("8"),
        ]
    )
    plan = await shop.validate(data, job=job(Dialect.OPENAI))
    assert errors_of(plan) == [
        (2, "missing_required_parameter", "method"),
        (3, "invalid_value", "method"),
        (4, "invalid_url", "url"),
        (5, "model_not_found", "body.model"),
        (6, "invalid_request", "body.model"),
        (7, "invalid_request", "body.messages"),
    ]
    assert plan.model == "m"


async def test_each_model_is_asked_for_once(shop: Shop) -> None:
    asked = []

    def can_serve(model: str) -> bool:
        asked.append(model)
        return True

    rules = replace(SMALL, can_serve=can_serve)
    data = b"\n".join(openai_line(str(n), model=f"m{n % 2}") for n in range(20))
    plan = await shop.validate(data, rules=rules, job=job(Dialect.OPENAI))
    assert (sorted(asked), plan.errors) == (["m0", "m1"], ())


async def test_more_lines_than_the_limit_are_refused(shop: Shop) -> None:
    rules = replace(SMALL, max_lines=5)
    ids = iter(range(100))
    files = [b"\n".join(line(str(next(ids))) for _ in range(count)) for count in (3, 3)]
    plan = await shop.validate(*files, rules=rules)
    assert errors_of(plan) == [(None, "too_many_tasks", None)]
    assert (plan.shards, plan.errors_total) == ((), 1)
    assert "5" in plan.errors[0].message
    plan = await shop.validate(
        line("1") + b"\n" + line("2"), line("3"), line("4"), line("5"), rules=rules
    )
    assert (plan.lines, plan.errors) == (5, ())


async def test_the_first_hundred_errors_are_kept_and_all_are_counted(shop: Shop) -> None:
    data = b"".join([b"bad\n" * 60, A + b"\n", A + b"\n", b"bad\n" * 300])
    plan = await shop.validate(data)
    assert plan.errors_total == 361
    assert [error.line for error in plan.errors] == [*range(1, 61), *range(62, 102)]
    assert plan.errors[60].code == "duplicate_custom_id"


async def test_with_several_files_lines_are_numbered_by_file_and_messages_name_it(
    shop: Shop,
) -> None:
    plan = await shop.validate(A + b"\nbad\n", b"\n" + B + b"\n" + A + b"\n")
    assert errors_of(plan) == [
        (2, "invalid_json_line", None),
        (3, "duplicate_custom_id", "custom_id"),
    ]
    assert plan.errors[0].message.startswith("file0.jsonl (input 1): ")
    assert plan.errors[1].message.startswith("file1.jsonl (input 2): ")
    assert "line 1 of file0.jsonl (input 1)" in plan.errors[1].message
    alone = await shop.validate(A + b"\nbad\n")
    assert "jsonl" not in alone.errors[0].message


async def test_a_bad_line_keeps_its_custom_id_unless_an_earlier_line_has_it(shop: Shop) -> None:
    data = b"\n".join(
        [STREAM, A, line("a", body=7), line("s"), line("b", body=7), b'{"custom_id":"c']
    )
    planned = await shop.planned(await shop.validate(data))
    assert [(custom_id, error) for _, custom_id, error in planned] == [
        (b'"s"', "streaming_unsupported"),
        (b'"a"', None),
        (b"null", "invalid_type"),
        (b"null", "duplicate_custom_id"),
        (b'"b"', "invalid_type"),
        (b"null", "invalid_json_line"),
    ]


async def marked(shop: Shop, ids: CustomIds, names: list[str], at_once: int) -> list[int | None]:
    """The lines that are found to repeat a custom_id, given these hashes of them."""
    different = [f"{number:03}" for number in range(len(names))]
    plan = await shop.validate(b"\n".join(map(line, different)))
    blob = shop.inputs[0].blob
    await shop.blobs.put_many([(blob, [b"\n".join(map(line, names))])])
    for number, name in enumerate(names):
        ids.add(name, number)
    errors = ErrorTally(shop.inputs)
    await mark_repeats(
        JobId("j1"), ids, plan.shards, shop.inputs, shop.blobs, errors, at_once=at_once
    )
    return [error.line for error in errors.first()]


async def test_equal_hashes_alone_make_no_duplicate(shop: Shop) -> None:
    names = [*(f"{n:03}" for n in range(50)), "031", "032"]
    assert await marked(shop, CustomIds(500, digest=len), names, 1000) == [51, 52]


async def test_many_repeats_are_found_in_several_passes(shop: Shop) -> None:
    names = [f"{n % 50:03}" for n in range(150)]
    assert await marked(shop, CustomIds(500), names, 7) == list(range(51, 151))


async def test_an_input_that_is_missing_or_short_is_missing(shop: Shop, tmp_path: Path) -> None:
    [source] = await shop.put([A + b"\n" + B])
    for changed in (
        replace(source, blob=BlobName("inputs/none")),
        replace(source, size_bytes=9999),
    ):
        with pytest.raises(BlobMissing):
            await validate(job(), [changed], shop.blobs, SMALL)


async def test_a_shard_never_spans_two_inputs(shop: Shop) -> None:
    plan = await shop.validate(A + b"\n" + B, C)
    assert [(shard.n, shard.input, shard.first_line, shard.lines) for shard in plan.shards] == [
        (0, 0, 0, 2),
        (1, 1, 2, 1),
    ]


async def test_the_dispatch_order_groups_lines_by_their_prompt(shop: Shop) -> None:
    def chat(n: int) -> bytes:
        messages = [
            {"role": "system", "content": f"template {n % 2}"},
            {"role": "user", "content": n},
        ]
        return line(str(n), body={"messages": messages, "max_tokens": n})

    rules = replace(SMALL, shard=ShardSize())
    await shop.validate(b"\n".join(map(chat, range(1, 9))), rules=rules)
    order = await shop.order(0)
    by_key = sorted(range(8), key=order.prefixes().__getitem__)
    templates = [n % 2 for n in by_key]
    assert templates in ([0] * 4 + [1] * 4, [1] * 4 + [0] * 4)
    assert list(order.allowed_tokens()) == list(range(1, 9))


pieces = st.sampled_from(
    [A, B, C, STREAM, b"", b" ", b"bad", b"[]", line("x" * 300), line("y", body={"model": 1})]
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(pieces, max_size=12), min_size=1, max_size=3),
    st.sampled_from([b"\n", b"\r\n"]),
)
async def test_every_line_is_planned_once_in_order_and_no_id_twice(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[bytes]], line_break: bytes
) -> None:
    shop = Shop(LocalBlobs(tmp_path_factory.mktemp("blobs")))
    plan = await shop.validate(*(line_break.join(lines) for lines in files))
    expected = [raw for lines in files for raw in lines if raw.strip()]
    if not expected:
        assert plan.shards == ()
        return
    planned = await shop.planned(plan)
    assert [raw.strip() for raw, _, _ in planned] == expected
    ids = [custom_id for _, custom_id, _ in planned if custom_id != b"null"]
    assert len(ids) == len(set(ids))
    assert plan.errors_total == sum(error is not None for _, _, error in planned)
    good = {custom_id for _, custom_id, error in planned if error is None}
    assert good == {open_line(raw)[0] for raw in expected if b"body" in raw} - {b'"s"'}


def test_a_million_custom_ids_take_eight_bytes_each() -> None:
    ids = CustomIds(1_000_000)
    for n in range(0, 1_000_000, 100):
        ids.add(f"request-{n}", n)
    assert sum(bucket.itemsize * len(bucket) for bucket in ids._buckets) == 8 * 10_000
    assert list(ids.candidates()) == []
    ids.add("request-500", 999_999)
    assert list(ids.candidates()) == [(500, 999_999)]
