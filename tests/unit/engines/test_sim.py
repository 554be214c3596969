from __future__ import annotations

import json

import pytest

from batchmill.engines.sim.answers import ENDPOINTS, digest_of
from batchmill.engines.sim.batching import Batch
from batchmill.engines.sim.engine import Engine, Plan
from batchmill.engines.sim.faults import asked_for
from batchmill.engines.sim.prefixes import PrefixCache
from batchmill.engines.sim.settings import BadSetting, Settings, changed, parse_spec

REQUESTS: dict[str, dict[str, object]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello"}]},
    "/v1/fim/completions": {"prompt": "def f(", "suffix": "return 1"},
    "/v1/completions": {"prompt": "hello"},
    "/v1/responses": {"input": "hello"},
    "/v1/conversations": {"inputs": "hello"},
    "/v1/embeddings": {"input": ["a", "b"]},
    "/v1/moderations": {"input": ["a", "b"]},
    "/v1/chat/moderations": {"input": [{"role": "user", "content": "a"}]},
    "/v1/classifications": {"input": "a"},
    "/v1/chat/classifications": {"input": [[{"role": "user", "content": "a"}]]},
    "/v1/ocr": {"document": {"type": "document_url", "document_url": "https://x/y.pdf"}},
    "/v1/audio/transcriptions": {"file_url": "https://x/y.mp3"},
}


def body_of(fields: dict[str, object], model: str = "sim") -> bytes:
    return json.dumps({"model": model, **fields}).encode()


def chat(text: str, **fields: object) -> bytes:
    return body_of({"messages": [{"role": "user", "content": text}], **fields})


def plan(
    body: bytes, path: str = "/v1/chat/completions", key: str = "", **settings: object
) -> Plan:
    return Engine(changed(Settings(), settings)).receive(path, key, body, 1)


def test_every_endpoint_has_a_request_here() -> None:
    assert set(REQUESTS) == set(ENDPOINTS)


@pytest.mark.parametrize("path", REQUESTS)
def test_every_endpoint_answers_the_same_request_the_same_way(path: str) -> None:
    body = body_of(REQUESTS[path])
    first = plan(body, path)
    assert (first.status, first.action) == (200, "answer")
    assert plan(body, path).body == first.body
    answer = json.loads(first.body)
    assert answer["simulated"] is True
    assert answer["model"] == "sim"
    assert "usage" in answer or "usage_info" in answer


def test_a_chat_answer_names_its_request_and_echoes_it() -> None:
    body = chat("what is id:line-7 ?")
    choice = json.loads(plan(body).body)["choices"][0]
    assert choice["message"]["content"] == f"sim {digest_of(body)}: what is id:line-7 ?"
    assert choice["finish_reason"] == "stop"


def test_a_short_limit_ends_an_answer_with_length() -> None:
    body = chat("word " * 100, max_tokens=8)
    answer = json.loads(plan(body).body)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 8


def test_lists_of_inputs_get_one_result_each() -> None:
    moderated = json.loads(plan(body_of({"input": ["a", "b", "c"]}), "/v1/moderations").body)
    assert len(moderated["results"]) == 3
    embedded = json.loads(plan(body_of({"input": ["a", "b"]}), "/v1/embeddings").body)
    assert [item["index"] for item in embedded["data"]] == [0, 1]
    assert embedded["data"][0]["embedding"] != embedded["data"][1]["embedding"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b'{"model":"sim"}', 400, "messages"),
        (chat("x", max_tokens="many"), 400, "max_tokens"),
        (chat("x", stream=True), 400, "stream"),
        (body_of(REQUESTS["/v1/chat/completions"], model="gone"), 404, "model"),
    ],
)
def test_bad_requests_are_refused_as_by_a_real_engine(
    body: bytes, status: int, param: str | None
) -> None:
    refused = plan(body)
    assert refused.status == status
    assert json.loads(refused.body)["error"]["param"] == param
    assert refused.service_seconds is None


def test_a_wrong_key_is_refused() -> None:
    assert plan(chat("x"), key="Bearer wrong").status == 200
    assert plan(chat("x"), key="Bearer wrong", models=["sim"]).status == 200
    engine = Engine(Settings(key="right"))
    assert engine.receive("/v1/chat/completions", "Bearer wrong", chat("x"), 1).status == 401
    assert engine.receive("/v1/chat/completions", "Bearer right", chat("x"), 1).status == 200
    assert engine.models("").status == 401


def test_an_outage_answers_everything_with_a_page() -> None:
    engine = Engine(Settings(status=502))
    answered = engine.receive("/v1/chat/completions", "", chat("x"), 1)
    assert answered.status == 502
    assert b"<html>" in answered.body
    assert engine.models("").status == 502


@pytest.mark.parametrize(
    ("text", "status", "action"),
    [
        ("!fault:500", 500, "answer"),
        ("!fault:429", 429, "answer"),
        ("!status:422", 422, "answer"),
        ("!fault:reset", 200, "reset"),
        ("!fault:hang", 200, "hang"),
        ("!fault:cut", 200, "cut"),
        ("!fault:crash", 200, "crash"),
        ("!fault:nothing-known", 200, "answer"),
        ("!status:99", 200, "answer"),
    ],
)
def test_a_text_may_ask_for_its_fault(text: str, status: int, action: str) -> None:
    struck = plan(chat(f"please {text} now"))
    assert (struck.status, struck.action) == (status, action)


def test_a_fault_may_strike_the_first_calls_only() -> None:
    engine = Engine(Settings())
    body = chat("!fault:500*2")
    statuses = [engine.receive("/v1/chat/completions", "", body, 1).status for _ in range(4)]
    assert statuses == [500, 500, 200, 200]


def test_big_answers_have_the_size_asked_for() -> None:
    assert 990_000 < len(plan(chat("!fault:big=1000000")).body) < 1_010_000
    assert 99_000 < len(plan(chat("x"), answer_bytes="100kb").body) < 101_000


def test_an_answer_that_is_not_json_is_none() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(plan(chat("!fault:notjson")).body)


def test_rates_strike_as_often_as_they_say_and_the_same_calls_again() -> None:
    def struck() -> list[int]:
        engine = Engine(parse_spec("rate_503=0.2,rate_400=0.1,seed=7,retry_after=3"))
        bodies = (chat(f"line {n}") for n in range(1_000))
        return [engine.receive("/v1/chat/completions", "", body, 1).status for body in bodies]

    first = struck()
    assert 150 < first.count(503) < 250
    assert 60 < first.count(400) < 140
    assert struck() == first


def test_overload_carries_the_retry_after_that_is_set() -> None:
    assert plan(chat("!fault:429"), retry_after="2s").retry_after == 2.0
    assert plan(chat("!fault:500"), retry_after="2s").retry_after == 0.0


def test_the_service_takes_its_time_by_tokens_and_jitter() -> None:
    assert plan(chat("x"), latency="50ms").service_seconds == 0.05
    slow = plan(chat("x" * 400), tokens_per_second=100, max_in_flight=5)
    assert slow.service_seconds is not None
    assert 1.0 < slow.service_seconds < 1.2
    spread = {plan(chat(f"{n}"), latency=1, jitter=0.5).service_seconds for n in range(20)}
    assert len(spread) == 20
    assert plan(chat("x !fault:slow=2")).service_seconds == 2.0


def test_a_shared_prefix_is_cached_and_saves_its_prefill() -> None:
    engine = Engine(parse_spec("prefix_blocks=100,prefill_per_second=1000"))
    prefix = "the same long instructions " * 20
    first = engine.receive("/v1/chat/completions", "", chat(prefix + "one"), 1)
    second = engine.receive("/v1/chat/completions", "", chat(prefix + "two"), 1)
    assert json.loads(first.body)["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert json.loads(second.body)["usage"]["prompt_tokens_details"]["cached_tokens"] == 128
    assert first.service_seconds is not None
    assert second.service_seconds is not None
    assert second.service_seconds < first.service_seconds / 5


def test_the_prefix_cache_drops_what_was_used_least() -> None:
    cache = PrefixCache()
    a, b, c = ("a" * 64, "b" * 64, "c" * 64)
    cache.look_up(a, 2)
    cache.look_up(b, 2)
    assert cache.look_up(a, 2) == 16
    cache.look_up(c, 2)
    assert cache.look_up(b, 2) == 0
    assert cache.queried_tokens == 80
    assert cache.hit_tokens == 16


def test_a_batch_serves_in_order_and_never_more_than_its_slots() -> None:
    batch: Batch[str] = Batch()
    assert [batch.join(call, 2) for call in "abcd"] == [True, True, False, False]
    assert batch.leave("c", 2) == ()
    assert batch.leave("a", 2) == ("d",)
    assert batch.running == {"b", "d"}
    assert batch.waiting == 0


def test_a_spec_sets_everything_by_name() -> None:
    settings = parse_spec(
        "latency=50ms, batch=64,models=a|b,rate_500=0.5,non_ascii=true,answer_bytes=2mb"
    )
    assert settings.latency == 0.05
    assert settings.batch == 64
    assert settings.models == ("a", "b")
    assert settings.rates == {"500": 0.5}
    assert settings.non_ascii
    assert settings.answer_bytes == 2_000_000
    assert parse_spec("") == Settings()


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("latencyy=5", "latencyy"),
        ("latency", "latency"),
        ("latency=fast", "latency"),
        ("batch=x", "batch"),
        ("rate_500=2", "rate_500"),
        ("rate_banana=0.1", "rate_banana"),
        ("rates=1", "rates"),
        ("marked=perhaps", "marked"),
    ],
)
def test_a_bad_spec_names_what_is_wrong(spec: str, names: str) -> None:
    with pytest.raises(BadSetting, match=names):
        parse_spec(spec)


def test_marks_are_found_in_any_text() -> None:
    assert asked_for(b"nothing here", 0) is None
    fault = asked_for(b'"!fault:big=100*3"', 2)
    assert fault is not None
    assert (fault.kind, fault.size) == ("big", 100.0)
    assert asked_for(b'"!fault:big=100*3"', 3) is None
