"""The simulator's metrics, under the names that vLLM uses. Pure."""

from __future__ import annotations

from batchmill.engines.sim.prefixes import PrefixCache

_TEMPLATE = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{model_name="{model}"}} {running}
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{model_name="{model}"}} {waiting}
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{model_name="{model}"}} {usage}
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{{model_name="{model}"}} {queries}
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{{model_name="{model}"}} {hits}
"""


def exposition(model: str, running: int, waiting: int, slots: int, prefixes: PrefixCache) -> bytes:
    """The text that `GET /metrics` answers."""
    return _TEMPLATE.format(
        model=model,
        running=running,
        waiting=waiting,
        usage=min(1.0, running / slots) if slots else 0.0,
        queries=prefixes.queried_tokens,
        hits=prefixes.hit_tokens,
    ).encode()
