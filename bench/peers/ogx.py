"""OGX (once Llama Stack): its server with its batches over one engine, and nothing else."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.environments import python_with
from bench.inputs import MODEL
from bench.peers.openai import OpenAIServer
from bench.processes import Failure, cpu_seconds, free_port, running, wait_until

PACKAGES: Final = Path(__file__).with_name("ogx.txt")
START_SECONDS: Final = 90.0
SERVED: Final = f"engine/{MODEL}"
"""What it calls the engine's model."""
_CONFIG: Final = """\
version: 2
distro_name: bench
apis: [batches, files, inference]
providers:
  inference:
  - provider_id: engine
    provider_type: remote::vllm
    config: {{base_url: "{url}", max_tokens: 4096, api_token: none}}
  files:
  - provider_id: local
    provider_type: inline::localfs
    config:
      storage_dir: {home}/files
      metadata_store: {{table_name: files_metadata, backend: sql_default}}
  batches:
  - provider_id: reference
    provider_type: inline::reference
    config:
      max_concurrent_requests_per_batch: {concurrency}
      sqlstore: {{table_name: batches, backend: sql_default}}
storage:
  backends:
    kv_default: {{type: kv_sqlite, db_path: {home}/kv.db}}
    sql_default: {{type: sql_sqlite, db_path: {home}/sql.db}}
  stores:
    metadata: {{namespace: registry, backend: kv_default}}
    inference: {{table_name: inference_store, backend: sql_default, enabled: false}}
    conversations: {{table_name: conversations, backend: sql_default}}
    prompts: {{table_name: prompts, backend: sql_default}}
    connectors: {{table_name: connectors, backend: sql_default}}
registered_resources: {{models: []}}
server: {{host: 127.0.0.1, port: {port}}}
"""


class Ogx(OpenAIServer):
    """A running server."""

    def __init__(self, pid: int, port: int) -> None:
        super().__init__(port)
        self._pid = pid

    def is_up(self) -> bool:
        """Whether it knows the engine's model."""
        try:
            return bool(self.client.get("/v1/models")["data"])
        except (OSError, Failure, http.client.HTTPException):
            return False

    def cpu(self) -> float:
        """CPU seconds so far."""
        return cpu_seconds(self._pid)


@contextmanager
def serving(url: str, home: Path, concurrency: int) -> Iterator[Ogx]:
    """A fresh server with so many calls in flight at most; raises `Failure` where it does not
    start."""
    home.mkdir()
    port, log, config = free_port(), home / "ogx.log", home / "config.yaml"
    text = _CONFIG.format(url=url, home=home.absolute(), concurrency=concurrency, port=port)
    config.write_text(text)
    program = python_with(PACKAGES).parent / "ogx"
    command = [str(program), "run", str(config), "--insecure"]
    quiet = {
        "PYTHONPATH": "",
        "HF_HUB_OFFLINE": "1",
        "OGX_LOGGING": "all=error",
        "HOME": str(home.absolute()),
    }
    with running(command, log, more=quiet) as process:
        server = Ogx(process.pid, port)

        def is_up() -> bool:
            if process.poll() is not None:
                last = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise Failure(f"it ended at once: {''.join(last)}")
            return server.is_up()

        wait_until(is_up, START_SECONDS, "the start of OGX", 0.5)
        yield server
