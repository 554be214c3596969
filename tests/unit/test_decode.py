"""The corpus of malformed lines: each has one code, one param, and never an exception."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmill.core.decode import InputLine, LineForm, custom_id_of, decode, glance, is_plain
from batchmill.core.lines import LineRules
from batchmill.model import Dialect, Job, JobId, JobState, LineError, TenantId

CHAT = "/v1/chat/completions"


def job(dialect: Dialect, endpoint: str = CHAT, model: str | None = "m") -> Job:
    return Job(
        id=JobId("j"),
        tenant=TenantId("t"),
        dialect=dialect,
        endpoint=endpoint,
        state=JobState.VALIDATING,
        created_at=0.0,
        deadline=0.0,
        total=1,
        model=model if dialect is Dialect.MISTRAL else None,
    )


RULES = LineRules(can_serve={"m", "other"}.__contains__, max_line_bytes=1_000_000)
MISTRAL = LineForm.of(job(Dialect.MISTRAL), RULES)
MODEL_PER_LINE = LineForm.of(job(Dialect.MISTRAL, model=None), RULES)
OPENAI = LineForm.of(job(Dialect.OPENAI), RULES)
EMBEDDINGS = LineForm.of(job(Dialect.OPENAI, "/v1/embeddings"), RULES)

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
HEAD = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":'
GOOD = HEAD + BODY + b"}"


@dataclass(frozen=True)
class Case:
    raw: bytes
    code: str
    param: str | None = None
    form: LineForm = MISTRAL


def body(text: bytes) -> bytes:
    return HEAD + text + b"}"


CASES = [
    # no JSON
    Case(b"{", "invalid_json_line"),
    Case(b"}", "invalid_json_line"),
    Case(b"hello", "invalid_json_line"),
    Case(b"{'custom_id':'a','body':{}}", "invalid_json_line"),
    Case(b'{"custom_id":"a","body":{}},', "invalid_json_line"),
    Case(b'{"custom_id":"a","body":{},}', "invalid_json_line"),
    Case(b'{"custom_id":"a","body":{"x":[1,]}}', "invalid_json_line"),
    Case(b'{"custom_id":"a","body":{}}{"custom_id":"b","body":{}}', "invalid_json_line"),
    Case(b'{"custom_id":"a","body":{"x":NaN}}', "invalid_json_line"),
    Case(b'{"custom_id":"a","body":{"x":-Infinity}}', "invalid_json_line"),
    Case(b'{"custom_id":"a","body":{"x":01}}', "invalid_json_line"),
    Case(b'{"custom_id":"a","body":{"x":"\x00"}}', "invalid_json_line"),
    Case(b"\x00" * 20, "invalid_json_line"),
    Case(b'{"custom_id":"a","body":{"x":"a\tb"}}', "invalid_json_line"),
    Case(rb'{"custom_id":"a","body":{"x":"\x41"}}', "invalid_json_line"),
    Case(b'{"custom_id":"a","body":{"x":"\xff"}}', "invalid_json_line"),
    Case(b'{"custom_id":"\xe9","body":{}}', "invalid_json_line"),
    Case(b'{"custom_id":"a","body":{},"\xc3":1}', "invalid_json_line"),
    Case(b'{"custom_id":"a","body":{"x":"\xed\xa0\x80"}}', "invalid_json_line"),
    Case('{"custom_id":"a","body":{}}'.encode("utf-16"), "invalid_json_line"),
    Case(b"\xef\xbb\xbf" + GOOD, "invalid_json_line"),
    Case(b"\x0c", "invalid_json_line"),
    Case(body(b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), "invalid_json_line"),
    Case(b"[" * 200_000, "invalid_json_line"),
    Case(b'{"custom_id":"a",//x\r"body":{}}', "invalid_json_line"),
    # JSON, but no object
    Case(b"[]", "invalid_request"),
    Case(b'[{"custom_id":"a","body":{}}]', "invalid_request"),
    Case(b"17", "invalid_request"),
    Case(b"null", "invalid_request"),
    Case(b' "text"\r', "invalid_request"),
    # too long
    Case(b"", "invalid_request"),
    Case(body(b'{"x":"' + b"y" * 1_000_000 + b'"}'), "invalid_request"),
    # keys that stand twice
    Case(b'{"custom_id":"a","custom_id":"b","body":{}}', "invalid_request", "custom_id"),
    Case(b'{"custom_id":"a","custom_id":"a","body":{}}', "invalid_request", "custom_id"),
    Case(rb'{"custom_id":"a","custom_\u0069d":"b","body":{}}', "invalid_request", "custom_id"),
    Case(b'{"custom_id":"a","body":{},"body":{}}', "invalid_request", "body"),
    Case(rb'{"\u0062ody":{},"custom_id":"a","body":{}}', "invalid_request", "body"),
    Case(body(b'{"model":"m","model":"m"}'), "invalid_request", "body.model"),
    Case(body(rb'{"model":"m","mode\u006C":"m"}'), "invalid_request", "body.model"),
    Case(body(b'{"stream":false,"stream":true}'), "invalid_request", "body.stream"),
    Case(body(b'{"stream":true,"stream":false}'), "invalid_request", "body.stream"),
    # custom_id
    Case(b'{"body":{}}', "missing_required_parameter", "custom_id"),
    Case(b'{"custom_id":null,"body":{}}', "missing_required_parameter", "custom_id"),
    Case(b'{"Custom_ID":"a","body":{}}', "missing_required_parameter", "custom_id"),
    Case(b'{"custom_id":1,"body":{}}', "invalid_type", "custom_id"),
    Case(b'{"custom_id":1.5,"body":{}}', "invalid_type", "custom_id"),
    Case(b'{"custom_id":["a"],"body":{}}', "invalid_type", "custom_id"),
    Case(b'{"custom_id":{"a":1},"body":{}}', "invalid_type", "custom_id"),
    Case(b'{"custom_id":true,"body":{}}', "invalid_type", "custom_id"),
    Case(rb'{"custom_id":"a\ud83d","body":{}}', "invalid_value", "custom_id"),
    Case(rb'{"custom_id":"\ude00\ud83d","body":{}}', "invalid_value", "custom_id"),
    Case(rb'{"custom_id":"\ud83d\\ude00","body":{}}', "invalid_value", "custom_id"),
    # body
    Case(b'{"custom_id":"a"}', "missing_required_parameter", "body"),
    Case(b'{"custom_id":"a","body":null}', "missing_required_parameter", "body"),
    Case(b'{"custom_id":"a","body":[]}', "invalid_type", "body"),
    Case(b'{"custom_id":"a","body":"{}"}', "invalid_type", "body"),
    Case(b'{"custom_id":"a","body":7}', "invalid_type", "body"),
    Case(b'{"custom_id":"a","body":false}', "invalid_type", "body"),
    # stream
    Case(body(b'{"model":"m","stream":true}'), "streaming_unsupported", "body.stream"),
    Case(body(rb'{"model":"m","str\u0065am":true}'), "streaming_unsupported", "body.stream"),
    Case(body(b'{"stream":1}'), "invalid_type", "body.stream"),
    Case(body(b'{"stream":"true"}'), "invalid_type", "body.stream"),
    Case(body(b'{"stream":{"on":true}}'), "invalid_type", "body.stream"),
    # method and url, where the dialect has them
    Case(
        b'{"custom_id":"a","url":"/v1/chat/completions","body":{}}',
        "missing_required_parameter",
        "method",
        OPENAI,
    ),
    Case(
        b'{"custom_id":"a","method":"POST","body":{}}', "missing_required_parameter", "url", OPENAI
    ),
    Case(GOOD.replace(b"POST", b"GET"), "invalid_value", "method", OPENAI),
    Case(GOOD.replace(b"POST", b"post"), "invalid_value", "method", OPENAI),
    Case(GOOD.replace(b'"POST"', b'["POST"]'), "invalid_type", "method", OPENAI),
    Case(GOOD.replace(b'"/v1/chat/completions"', b"123"), "invalid_type", "url", OPENAI),
    Case(GOOD.replace(b"/v1/chat/completions", b"/v1/embeddings"), "invalid_url", "url", OPENAI),
    Case(GOOD.replace(b"/v1/chat", b"/chat"), "invalid_url", "url", OPENAI),
    Case(GOOD, "invalid_url", "url", EMBEDDINGS),
    # model, where each line names its own
    Case(GOOD.replace(b'"m"', b'"gpt-none"'), "model_not_found", "body.model", OPENAI),
    Case(GOOD.replace(b'"m"', b'""'), "model_not_found", "body.model", OPENAI),
    Case(GOOD.replace(b'"m"', b"null"), "invalid_request", "body.model", OPENAI),
    Case(GOOD.replace(b'"m"', b"123"), "invalid_type", "body.model", OPENAI),
    Case(body(b'{"messages":[]}'), "invalid_request", "body.model", OPENAI),
    Case(body(b"{}"), "invalid_request", "body.model", MODEL_PER_LINE),
    # messages, where they are sure to be needed
    Case(body(b'{"model":"m"}'), "invalid_request", "body.messages", OPENAI),
    Case(body(b'{"model":"m","messages":null}'), "invalid_request", "body.messages", OPENAI),
    Case(body(b'{"model":"m","messages":"hi"}'), "invalid_type", "body.messages", OPENAI),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{case.raw[:40]!r}")
def test_each_bad_line_has_its_code_and_param(case: Case) -> None:
    found = decode(case.raw, case.form, 7)
    assert isinstance(found, LineError)
    assert (found.code, found.param, found.line) == (case.code, case.param, 7)
    assert found.message.isprintable()
    assert len(found.message) < 400


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{case.raw[:40]!r}")
def test_a_glance_never_takes_a_bad_line(case: Case) -> None:
    line = glance(case.raw)
    taken = line is not None and is_plain(case.raw, [line]) and case.form.fits(line)
    assert not taken or len(case.raw) > case.form.max_line_bytes


ODD_BUT_GOOD = [
    (GOOD + b"\r", MISTRAL),
    (b" \t" + GOOD + b"  ", MISTRAL),
    (b'{"custom_id":"","body":{}}', MISTRAL),
    (b'{"body":{},"custom_id":"a"}', MISTRAL),
    (b'{"custom_id":"a","body":{"model":17,"stream":false,"max_tokens":"9"}}', MISTRAL),
    (b'{"custom_id":"a","body":{"messages":"text"}}', MISTRAL),
    (b'{"custom_id":"a","method":5,"url":[],"body":{}}', MISTRAL),
    (b'{"custom_id":"a","url":"/v1/embeddings","body":{}}', MISTRAL),
    (b'{"custom_id":"a","body":{"stream":null}}', MISTRAL),
    (b'{"custom_id":"a","body":{"x":' + b"1" * 5000 + b"}}", MISTRAL),
    (b'{"custom_id":"a","body":{"max_tokens":' + b"1" * 5000 + b"}}", MISTRAL),
    (b'{"custom_id":"a","body":{"x":' + b"[" * 300 + b"]" * 300 + b"}}", MISTRAL),
    (rb'{"custom_id":"a","body":{"x":"\ud83d"}}', MISTRAL),
    (rb'{"custom_id":"\ud83d\ude00","body":{"x":"\ude00"}}', MISTRAL),
    (rb'{"custom_id":"\\ud83d","body":{}}', MISTRAL),
    (b'{"custom_id":"a","extra":{"custom_id":"b","body":1},"body":{"x":{"model":1}}}', MISTRAL),
    (b'{"custom_id":"model","body":{"x":"body","y":"custom_id"}}', MISTRAL),
    (b'{"custom_id":"a","body":{"temperature":1,"temperature":2}}', MISTRAL),
    (rb'{"c\u0075stom_id":"a","body":{"x":"\u0061"}}', MISTRAL),
    (GOOD, OPENAI),
    (GOOD.replace(b'"m"', b'"other"'), OPENAI),
    (GOOD.replace(b'"m"', rb'"\u006d"'), OPENAI),
    (GOOD.replace(b"/chat/completions", b"/embeddings").replace(b"messages", b"input"), EMBEDDINGS),
]


@pytest.mark.parametrize(("raw", "form"), ODD_BUT_GOOD)
def test_an_odd_line_may_be_good(raw: bytes, form: LineForm) -> None:
    line = decode(raw, form, 1)
    assert isinstance(line, InputLine)
    assert line.custom_id == json.loads(raw, parse_int=str)["custom_id"]


texts = st.text(st.characters(exclude_categories=["Cs"]))
members = st.dictionaries(
    st.sampled_from(["model", "stream", "messages", "max_tokens", "prompt", "input", "tools"])
    | texts,
    st.none() | st.booleans() | st.integers(0, 2**40) | texts | st.lists(texts) | st.just("m"),
)
lines = st.fixed_dictionaries(
    {},
    optional={
        "custom_id": texts | st.none() | st.integers(),
        "body": members | st.none() | texts,
        "method": st.sampled_from(["POST", "GET", None, 3]),
        "url": st.sampled_from([CHAT, "/v1/embeddings", None, 3]),
        "model": texts,
    },
)


@given(
    line=lines,
    form=st.sampled_from([MISTRAL, MODEL_PER_LINE, OPENAI, EMBEDDINGS]),
    ascii_only=st.booleans(),
)
def test_what_a_glance_takes_is_what_decoding_finds(
    line: dict[str, object], form: LineForm, *, ascii_only: bool
) -> None:
    raw = json.dumps(line, ensure_ascii=ascii_only).encode()
    quick = glance(raw)
    judged = decode(raw, form, 1)
    if quick is not None and is_plain(raw, [quick]) and form.fits(quick):
        assert isinstance(judged, InputLine)
        assert judged.custom_id == quick.custom_id
        assert list(map(bytes, judged.body.prompt_texts())) == list(
            map(bytes, quick.body.prompt_texts())
        )
        assert judged.body.expected_tokens() == quick.body.expected_tokens()
        if form.names_model:
            assert judged.body.model == quick.body.model


@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
)
def test_any_bytes_are_judged(raw: bytes) -> None:
    assert isinstance(decode(raw, MISTRAL, 1), InputLine | LineError)
    custom_id_of(raw)


@pytest.mark.parametrize(
    ("raw", "custom_id"),
    [
        (body(b'{"stream":true}'), "a"),
        (b'{"custom_id":"\xc3\xa9"}', "é"),
        (b'{"custom_id":"a","custom_id":"b"}', None),
        (b'{"custom_id":5}', None),
        (b'{"custom_id":null}', None),
        (rb'{"custom_id":"\ud83d"}', None),
        (rb'{"custom_id":"a","x":"\ud83d"}', "a"),
        (b'{"custom_id":"a"', None),
        (b"[]", None),
        (b"", None),
        (b"[" * 200_000, None),
    ],
)
def test_a_bad_line_keeps_its_custom_id_where_it_is_clear(
    raw: bytes, custom_id: str | None
) -> None:
    assert custom_id_of(raw) == custom_id


def test_the_texts_of_a_prompt_come_in_the_order_an_engine_reads_them() -> None:
    body = b'{"messages":[{"a":1},{"b":2}],"tools":[{"t":1}],"prompt":"unused"}'
    line = glance(b'{"custom_id":"a","body":' + body + b"}")
    assert line is not None
    assert [bytes(text) for text in line.body.prompt_texts()] == [
        b'[{"t":1}]',
        b'{"a":1}',
        b'{"b":2}',
    ]


@pytest.mark.parametrize(
    ("members", "pieces"),
    [
        ('"prompt":"abc"', [b'"abc"']),
        ('"input":["a","b"]', [b'["a","b"]']),
        ('"inputs":[{"a":1},{"b":2}],"instructions":"be"', [b'"be"', b'{"a":1}', b'{"b":2}']),
        ('"document":{}', []),
    ],
)
def test_prompts_of_other_endpoints_are_read_too(members: str, pieces: list[bytes]) -> None:
    line = glance(f'{{"custom_id":"a","body":{{{members}}}}}'.encode())
    assert line is not None
    assert [bytes(text) for text in line.body.prompt_texts()] == pieces


def test_the_lines_of_an_agent_name_no_model() -> None:
    agent = replace(job(Dialect.MISTRAL, "/v1/conversations", model=None), agent_id="ag_1")
    form = LineForm.of(agent, RULES)
    raw = b'{"custom_id":"a","body":{"inputs":"hi"}}'
    assert isinstance(decode(raw, form, 1), InputLine)
    seen = glance(raw)
    assert seen is not None
    assert form.fits(seen)


@pytest.mark.parametrize("levels", [*range(900, 1100, 5), 10_000])
def test_however_deep_a_line_is_it_is_judged(levels: int) -> None:
    nested = b"[" * levels + rb'"\ud800"' + b"]" * levels
    raw = b'{"custom_id":"a","body":{"messages":%b}}' % nested
    assert isinstance(decode(raw, MISTRAL, 1), InputLine | LineError)
    custom_id_of(raw)
