"""The engine inside Batchmill: llama.cpp's own HTTP server, out of the xllamacpp wheel.

`python -m batchmill.engines.local --model PATH|demo --port N --parallel N` runs it. It needs a
process of its own, because a failed assertion in ggml ends the whole process; `supervise.py`
starts it, ends it with its parent, and starts it again. Without a path it serves the demo model,
whose random weights answer in word salad (`tools/make_demo_model.py`).

Prints one line, `ready http://127.0.0.1:PORT/v1`, once it answers.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DEMO = "demo"
DEMO_NAME = "batchmill-demo"
DEMO_PATH = Path(__file__).with_name("demo.gguf")
DEMO_CONTEXT = 1_024
CONTEXT = 4_096
"""Tokens for prompt and answer of one call; one without `max_tokens` may fill it."""
PARALLEL = 4
CACHE_MIB = 256
"""Of prompts that no slot holds any more."""
_MAGIC = b"GGUF"
_ERRORS_ONLY = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is served, and how; `context` is per call."""

    path: Path
    name: str
    context: int
    threads: int
    parallel: int = PARALLEL
    port: int = 0
    cache_mib: int = CACHE_MIB


class CannotServe(Exception):
    """The engine cannot start; the message is one sentence for people."""


def plan_for(
    model: str, *, port: int, parallel: int, context: int | None, threads: int | None, cpus: int
) -> Plan:
    """What to run for a model that is a path, or `demo`. Raises `CannotServe`.

    ggml spins while it waits, so it gets one core less than there are, and the demo model one.
    """
    if model in {"", DEMO}:
        return Plan(DEMO_PATH, DEMO_NAME, context or DEMO_CONTEXT, threads or 1, parallel, port)
    path = Path(model).expanduser()
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise CannotServe(f"cannot read the model {path}: {error.strerror}") from error
    if magic != _MAGIC:
        raise CannotServe(f"{path} is not a GGUF file; llama.cpp serves no other")
    workers = threads or max(1, cpus - 1)
    return Plan(path, path.stem, context or CONTEXT, workers, parallel, port)


def serve(plan: Plan) -> Any:
    """Start the server in threads of this process; it lives as long as what is returned, and
    answers on its `listening_address`. Raises `CannotServe`."""
    if find_spec("xllamacpp") is None:
        raise CannotServe("llama.cpp is not installed: pip install 'batchmill[local]'")
    import xllamacpp  # noqa: PLC0415 - an extra, and it loads a 34 MB library

    params = xllamacpp.CommonParams()
    params.model.path = str(plan.path)
    params.model_alias = {plan.name}
    params.hostnames = ["127.0.0.1"]
    params.port = plan.port
    params.n_parallel = plan.parallel
    params.n_ctx = plan.context * plan.parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = plan.threads
    params.cache_ram_mib = plan.cache_mib
    params.endpoint_metrics = True
    params.verbosity = _ERRORS_ONLY
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        what = f"llama.cpp cannot serve {plan.path} on port {plan.port}"
        raise CannotServe(
            f"{what}: the file is damaged, too large, or the port is taken"
        ) from error


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="batchmill.engines.local", description=__doc__)
    parser.add_argument("--model", default=DEMO, help="a GGUF file, or demo")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--parallel", type=int, default=PARALLEL, help="calls at once")
    parser.add_argument("--context", type=int, help="tokens of one call")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cache-mib", type=int, default=CACHE_MIB, help="prompts kept in memory")
    arguments = vars(parser.parse_args())
    cache_mib = arguments.pop("cache_mib")
    cpus = len(os.sched_getaffinity(0))
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        server = serve(replace(plan_for(**arguments, cpus=cpus), cache_mib=cache_mib))
    except CannotServe as error:
        sys.exit(f"local: {error}")
    print(f"ready {server.listening_address}/v1", flush=True)  # noqa: T201 - it is waited for
    signal.sigwait(signals)
    os._exit(0)  # what is in flight is dropped; the library's own way out may hang


if __name__ == "__main__":
    main()
