"""What engines' metrics say of their load (engines/load.py)."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchmill.calls import Load
from batchmill.engines.load import load_of

VLLM = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="Qwen/Qwen3-8B"} 31.0
vllm:num_requests_running{engine="1",model_name="Qwen/Qwen3-8B"} 17.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="Qwen/Qwen3-8B"} 5.0
vllm:num_requests_waiting{engine="1",model_name="Qwen/Qwen3-8B"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 5.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.5
vllm:prompt_tokens_total{model_name="}"} 1.0e+06
"""
SGLANG = b"""\
sglang:num_running_reqs{model_name="m",tp_rank="0"} 12.0
sglang:num_queue_reqs{model_name="m",tp_rank="0"} 3.0
sglang:token_usage{model_name="m",tp_rank="0"} 0.28
"""
LLAMACPP = b"""\
llamacpp:prompt_tokens_total 94
llamacpp:requests_processing 4
llamacpp:requests_deferred 2
"""


@pytest.mark.parametrize(
    ("page", "load"),
    [(VLLM, Load(48, 5, 0.5)), (SGLANG, Load(12, 3, 0.28)), (LLAMACPP, Load(4, 2))],
    ids=["vllm", "sglang", "llamacpp"],
)
def test_the_load_of_each_kind_of_engine_is_read(page: bytes, load: Load) -> None:
    assert load_of(page) == load


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"<html>404</html>",
        b"python_gc_objects_collected_total 5\n",
        b"llamacpp:requests_processing 4\n",
        b"llamacpp:requests_processing NaN\nllamacpp:requests_deferred -1\n",
        b'vllm:num_requests_running{model="x 4\nvllm:num_requests_waiting 1\n',
    ],
)
def test_a_page_that_does_not_tell_the_load_tells_nothing(page: bytes) -> None:
    assert load_of(page) is None


@given(st.binary(max_size=200) | st.text('{}="\\, a#1.e:\n', max_size=14).map(str.encode))
@example(b'a="')
def test_no_page_of_metrics_breaks_the_worker(noise: bytes) -> None:
    page = b"llamacpp:requests_processing{" + noise + b"\nllamacpp:requests_deferred " + noise
    load = load_of(page + b"\n" + LLAMACPP)
    assert load is None or load.running >= 0
