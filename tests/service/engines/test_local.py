from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchmill.calls import Answered, Call, Refused
from batchmill.clock import SystemClock
from batchmill.engines.budget import ByteBudget
from batchmill.engines.local import DEMO_PATH, CannotServe, Plan, plan_for
from batchmill.engines.transport import HttpTransport
from batchmill.fleet import EngineSpec
from tests.asking import ask

needs_llama = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None, reason="needs batchmill[local]"
)
HIDE_XLLAMACPP = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "xllamacpp":
            sys.meta_path[:] = []
            sys.path_importer_cache.clear()

sys.meta_path.insert(0, Hidden())
"""
COMMAND = [sys.executable, "-m", "batchmill.engines.local"]


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    command = [*COMMAND, "--port", "0", "--parallel", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready ")
        yield line.split()[1]
        process.terminate()
        assert process.wait(10) == 0


def transport_to(url: str) -> HttpTransport:
    return HttpTransport(EngineSpec("local", url), SystemClock(), ByteBudget(96_000_000))


def chat(**fields: object) -> Call:
    body = {"model": "any", "messages": [{"role": "user", "content": "hello"}], **fields}
    return Call("/v1/chat/completions", json.dumps(body).encode(), 60.0)


@needs_llama
async def test_the_demo_model_answers_in_words_and_counts_its_tokens(demo: str) -> None:
    transport = transport_to(demo)
    assert await transport.models() == ("batchmill-demo",)
    replies = await asyncio.gather(*(ask(transport, chat(max_tokens=8)) for _ in range(6)))
    for reply in replies:
        assert isinstance(reply, Answered)
        answer = json.loads(reply.body)
        assert answer["choices"][0]["message"]["content"].isascii()
        assert reply.usage.output_tokens == answer["usage"]["completion_tokens"] <= 8
        assert reply.usage.input_tokens > 0
    await transport.close()


@needs_llama
async def test_llama_cpp_refuses_a_bad_line_with_its_reason(demo: str) -> None:
    transport = transport_to(demo)
    reply = await ask(transport, chat(max_tokens="many"))
    assert isinstance(reply, Refused)
    assert reply.status == 400
    assert reply.message
    long = [{"role": "user", "content": "word " * 5_000}]
    reply = await ask(transport, chat(messages=long))
    assert isinstance(reply, Refused)
    assert reply.status == 400
    assert reply.code == "exceed_context_size_error"
    await transport.close()


@needs_llama
def test_a_damaged_model_is_one_clear_line(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(DEMO_PATH.read_bytes()[:5_000])
    command = [*COMMAND, "--model", str(damaged)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "damaged" in ended.stderr


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDE_XLLAMACPP)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    ended = subprocess.run(
        COMMAND, capture_output=True, text=True, check=False, timeout=30, env=environment
    )
    assert ended.returncode == 1
    assert ended.stderr == "local: llama.cpp is not installed: pip install 'batchmill[local]'\n"


def plan(model: Path | str) -> Plan:
    return plan_for(str(model), port=5, parallel=3, context=None, threads=None, cpus=8)


def test_a_file_that_is_missing_or_no_model_cannot_be_served(tmp_path: Path) -> None:
    with pytest.raises(CannotServe, match="No such file"):
        plan(tmp_path / "none.gguf")
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(CannotServe, match="not a GGUF"):
        plan(tmp_path / "text.gguf")


def test_a_model_gets_its_files_name_and_all_cores_but_one(tmp_path: Path) -> None:
    (tmp_path / "qwen-small.gguf").write_bytes(b"GGUF")
    made = plan(tmp_path / "qwen-small.gguf")
    assert (made.name, made.threads, made.context, made.port) == ("qwen-small", 7, 4096, 5)
    demo = plan("demo")
    assert (demo.name, demo.threads, demo.context) == ("batchmill-demo", 1, 1024)
