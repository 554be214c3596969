"""The main job in a minute: a batch through Mistral's own SDK, on a real llama.cpp engine.

Starts `batchmill serve` on a free port in a temporary directory, uploads `reviews.jsonl`, creates
a job, watches it, prints results and counters, and stops. Exit code 0 only if every line was
answered. Run it with `make demo`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mistralai.client import Mistral
from mistralai.client.models import BatchJob
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

INPUT = Path(__file__).parent / "reviews.jsonl"
UNFINISHED = {"QUEUED", "RUNNING", "CANCELLATION_REQUESTED"}
ON_THE_WAY = Console(stderr=True)


def main() -> int:
    """Run the whole demo; the exit code."""
    with tempfile.TemporaryDirectory(prefix="batchmill-demo-") as data, serving(data) as url:
        client = Mistral(api_key="any", server_url=url)
        model = client.models.list().data[0].id
        upload = client.files.upload(
            file={"file_name": INPUT.name, "content": INPUT.read_bytes()}, purpose="batch"
        )
        job = client.batch.jobs.create(
            input_files=[upload.id], model=model, endpoint="/v1/chat/completions"
        )
        job = watch(client, job)
        results = answers(client, job.output_file)
    report(job, results)
    return 0 if job.status == "SUCCESS" and job.succeeded_requests == job.total_requests else 1


@contextmanager
def serving(data: str) -> Iterator[str]:
    """`batchmill serve` with the embedded engine; yields its URL."""
    command = [sys.executable, "-m", "batchmill", "serve", "--port", "0", "--data", data]
    log = Path(data, "serve.log")
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*command, "--engine", "local"], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as server,
    ):
        try:
            url = ""
            assert server.stdout is not None
            for line in server.stdout:
                print(line, end="")
                if line.startswith("server_url"):
                    url = line.split()[2]
                if line.startswith("base_url"):
                    break
            if not url:
                print(log.read_text(), file=sys.stderr)
                sys.exit("batchmill serve did not start")
            yield url
        finally:
            server.terminate()


def watch(client: Mistral, job: BatchJob) -> BatchJob:
    """Follow the job to its end with a progress bar; the finished job."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=ON_THE_WAY) as bar:
        task = bar.add_task("answering", total=job.total_requests)
        while job.status in UNFINISHED:
            time.sleep(0.2)
            job = client.batch.jobs.get(job_id=job.id)
            bar.update(task, completed=job.completed_requests)
    return job


def answers(client: Mistral, output_file: str | None) -> list[tuple[str, str]]:
    """The custom_id and the answer's text of every result line."""
    if not output_file:
        return []
    lines = client.files.download(file_id=output_file).read().decode().splitlines()
    results = [json.loads(line) for line in lines]
    return [
        (
            result["custom_id"],
            result["response"]["body"]["choices"][0]["message"]["content"],
        )
        for result in results
    ]


def report(job: BatchJob, results: list[tuple[str, str]]) -> None:
    """Print the first results, the counters, and what to do next."""
    print("\nThe first results:")
    for custom_id, text in results[:5]:
        print(f"  {custom_id}: {' '.join(text.split())}")
    print(
        f"\n{job.status}: {job.succeeded_requests} of {job.total_requests} lines answered, "
        f"{job.failed_requests} failed"
    )
    print(
        "\nThe demo model has random weights: its words mean nothing, the rest is real.\n"
        "With a real engine: batchmill serve --engine http://your-host:8000/v1\n"
        "or with a model file: batchmill serve --engine local:/path/to/model.gguf"
    )


if __name__ == "__main__":
    sys.exit(main())
