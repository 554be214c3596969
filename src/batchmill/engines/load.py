"""What an engine's metrics say of its load, in Prometheus' text format. Pure.

The names are vLLM's, SGLang's, llama.cpp's and TGI's; other lines are not even parsed, since
some servers tell 100 kB every second.
"""

from __future__ import annotations

from math import isfinite

from prometheus_client.parser import text_string_to_metric_families

from batchmill.calls import Load

_RUNNING = frozenset(
    {
        "vllm:num_requests_running",
        "sglang:num_running_reqs",
        "llamacpp:requests_processing",
        "tgi_batch_current_size",
    }
)
_WAITING = frozenset(
    {
        "vllm:num_requests_waiting",
        "sglang:num_queue_reqs",
        "llamacpp:requests_deferred",
        "tgi_queue_size",
    }
)
_USAGE = frozenset({"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"})
_WORDS = tuple(f"{name}{after}" for name in _RUNNING | _WAITING | _USAGE for after in "{ ")
_MOST_LINES = 1024


def load_of(raw: bytes) -> Load | None:
    """The load that a page of metrics tells; None where it tells none. Several replicas on one
    page are one engine to us."""
    lines = [line for line in raw.decode(errors="replace").splitlines() if line.startswith(_WORDS)]
    sums: dict[str, float] = {}
    usage = 0.0
    try:
        for family in text_string_to_metric_families("\n".join([*lines[:_MOST_LINES], ""])):
            for sample in family.samples:
                if not isfinite(sample.value) or sample.value < 0.0:
                    continue
                if sample.name in _USAGE:
                    usage = max(usage, sample.value)
                else:
                    sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    except (ValueError, LookupError):  # the parser meets some broken labels with an IndexError
        return None
    running = [sums[name] for name in _RUNNING if name in sums]
    waiting = [sums[name] for name in _WAITING if name in sums]
    return Load(sum(running), sum(waiting), usage) if running and waiting else None
