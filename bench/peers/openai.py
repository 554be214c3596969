"""What every peer speaks: OpenAI's Batch API."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

from bench.client import Client
from bench.inputs import ENDPOINT, body
from bench.processes import Failure, wait_until

ENDED: Final = {"completed", "failed", "cancelled", "expired"}


class OpenAIServer:
    """A peer's API."""

    def __init__(self, port: int) -> None:
        self.client = Client(port)

    def run(self, batch: Path, lines: int, seconds: float) -> float:
        """Run a batch to its end; how long it took. Raises `Failure` unless every line was
        answered."""
        file = self.client.upload(batch)
        began = time.monotonic()
        wanted = {"input_file_id": file, "completion_window": "24h", "endpoint": ENDPOINT}
        path = f"/v1/batches/{self.client.post('/v1/batches', wanted)['id']}"
        wait_until(lambda: self.client.get(path)["status"] in ENDED, seconds, "a batch", 0.1)
        took, ended = time.monotonic() - began, self.client.get(path)
        counts = ended["request_counts"]
        if ended["status"] != "completed" or counts["completed"] != lines:
            raise Failure(f"its batch ended as {ended['status']}: {counts} {ended.get('errors')}")
        return took


def write_batch(path: Path, lines: int, model: str) -> Path:
    """The lines of a batch in OpenAI's format, for that model."""
    with path.open("wb") as file:
        for n in range(lines):
            sent = json.loads(body(n)) | {"model": model}
            line = {"custom_id": f"line-{n:07d}", "method": "POST", "url": ENDPOINT, "body": sent}
            file.write(json.dumps(line).encode() + b"\n")
    return path
