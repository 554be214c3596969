"""One job through each of the ten endpoints."""

from __future__ import annotations

import json
from typing import Any

from mistral_python.harness import World
from operations import operation

TALK = [{"role": "user", "content": "good or bad?"}]


def _answers(world: World, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to one line sent there."""
    line = json.dumps({"custom_id": "only", "body": body}).encode()
    job = world.ended(world.create(line, endpoint=endpoint))
    assert (job.status, job.succeeded_requests) == ("SUCCESS", 1), (job, _errors(world, job))
    assert job.endpoint == endpoint, job
    (result,) = world.lines(job.output_file)
    return dict(result["response"]["body"])


def _errors(world: World, job: Any) -> Any:
    return job.error_file and world.lines(job.error_file)


@operation
def chat_completions(world: World) -> None:
    body = _answers(world, "/v1/chat/completions", {"messages": TALK})
    assert body["choices"][0]["finish_reason"] in {"stop", "length"}, body


@operation
def embeddings(world: World) -> None:
    body = _answers(world, "/v1/embeddings", {"input": ["one", "two"]})
    assert [item["index"] for item in body["data"]] == [0, 1], body


@operation
def fim_completions(world: World) -> None:
    body = _answers(world, "/v1/fim/completions", {"prompt": "def f(", "suffix": "return a"})
    assert body["choices"][0]["message"]["content"], body


@operation
def moderations(world: World) -> None:
    body = _answers(world, "/v1/moderations", {"input": ["one", "two"]})
    assert len(body["results"]) == 2, body


@operation(since="1.2.5")
def chat_moderations(world: World) -> None:
    body = _answers(world, "/v1/chat/moderations", {"input": [TALK]})
    assert body["results"], body


@operation(since="1.9.11")
def ocr(world: World) -> None:
    document = {"type": "document_url", "document_url": "https://example.com/page.pdf"}
    assert _answers(world, "/v1/ocr", {"document": document})["pages"]


@operation(since="1.9.11")
def classifications(world: World) -> None:
    assert _answers(world, "/v1/classifications", {"input": "one"})["results"]


@operation(since="1.9.11")
def chat_classifications(world: World) -> None:
    body = _answers(world, "/v1/chat/classifications", {"input": {"messages": TALK}})
    assert body["results"], body


@operation(since="1.9.11")
def conversations(world: World) -> None:
    assert _answers(world, "/v1/conversations", {"inputs": "hello"})["outputs"]


@operation(since="1.9.11")
def audio_transcriptions(world: World) -> None:
    body = {"file_url": "https://example.com/talk.mp3"}
    assert _answers(world, "/v1/audio/transcriptions", body)["text"]
