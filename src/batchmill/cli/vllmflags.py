"""Flags of `vllm run-batch` that mean nothing here, each with what to do instead."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Final

from batchmill.errors import ConfigError, Problem

_OF_THE_ENGINE: Final = frozenset(
    [
        "--tensor-parallel-size",
        "-tp",
        "--pipeline-parallel-size",
        "-pp",
        "--data-parallel-size",
        "-dp",
        "--gpu-memory-utilization",
        "--max-model-len",
        "--max-num-seqs",
        "--max-num-batched-tokens",
        "--dtype",
        "--quantization",
        "-q",
        "--kv-cache-dtype",
        "--enforce-eager",
        "--enable-prefix-caching",
        "--no-enable-prefix-caching",
        "--enable-chunked-prefill",
        "--swap-space",
        "--cpu-offload-gb",
        "--block-size",
        "--trust-remote-code",
        "--tokenizer",
        "--tokenizer-mode",
        "--revision",
        "--download-dir",
        "--load-format",
        "--served-model-name",
        "--chat-template",
        "--enable-lora",
        "--lora-modules",
        "--speculative-config",
        "--distributed-executor-backend",
        "--enable-expert-parallel",
        "--reasoning-parser",
        "--tool-call-parser",
        "--enable-auto-tool-choice",
        "--limit-mm-per-prompt",
        "--hf-overrides",
        "--compilation-config",
        "--seed",
        "--max-logprobs",
        "--runner",
        "--task",
        "--convert",
        "--guided-decoding-backend",
        "--structured-outputs-config",
    ]
)
_OF_ITS_OUTPUT: Final = {
    "--output-tmp-dir": "is not needed: results are written beside the output and renamed",
    "--response-role": "is not needed: answers are written as the engine gives them",
    "--enable-metrics": "is for a server: `batchmill serve` has /metrics",
    "--url": "is for a server: `batchmill serve` has /metrics",
    "--host": "is for a server: `batchmill serve` has /metrics",
    "--port": "is for a server: `batchmill serve` has /metrics",
    "--max-log-len": "is not needed: no request is logged",
    "--disable-log-requests": "is not needed: no request is logged",
    "--enable-log-requests": "is not there: no request is logged",
    "--disable-log-stats": "is not needed; -q says nothing but what is wrong",
}


def refuse_unknown(arguments: Iterable[str], known: Collection[str]) -> None:
    """Raise `ConfigError` with everything that is no flag of ours, and what it would be."""
    problems = [_problem(each.partition("=")[0], known) for each in arguments if _is_flag(each)]
    rest = [each for each in arguments if not _is_flag(each)]
    if problems:
        raise ConfigError(problems)
    if rest:
        raise ConfigError([Problem(rest[0], "is one word too many; the input is given with -i")])


def _is_flag(argument: str) -> bool:
    return argument.startswith("-") and argument != "-"


def _problem(flag: str, known: Collection[str]) -> Problem:
    if flag in _OF_ITS_OUTPUT:
        return Problem(flag, _OF_ITS_OUTPUT[flag])
    if flag in _OF_THE_ENGINE:
        return Problem(
            flag,
            f"is a setting of the engine, which runs by itself: start it with that (vllm serve "
            f"MODEL {flag} ...), and give its URL with --engine http://host:8000/v1",
        )
    close = difflib.get_close_matches(flag, known, n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]}?" if close else "; see batchmill run --help"
    return Problem(flag, f"is no option{hint}")
