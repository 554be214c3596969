"""One server for the session, and every SDK run once against it, each as a tenant of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import httpx2
import pytest

from tests.serving import Serve
from tests.wire.releases import CLIENTS, Release
from tools import wire_environments

Problems = dict[str, str | None]
_MOST_SECONDS = 110
CROWD = 250


class Clients:
    """Runs the client programs, each at most once."""

    def __init__(self, serve: Serve, stranger_key: str) -> None:
        self._serve = serve
        self._stranger_key = stranger_key
        self._problems: dict[str, Problems] = {}

    def problems(self, release: Release) -> Problems:
        """What went wrong with each operation of a release; None: nothing."""
        if release.name not in self._problems:
            self._problems[release.name] = self._run(release, _command(release))
        return self._problems[release.name]

    @cached_property
    def _crowded_key(self) -> str:
        """The key of a tenant that has 250 batches; none of them has lines."""
        key = make_key(self._serve.data, "crowded")
        fields = {"endpoint": "/v1/embeddings", "completion_window": "24h", "input_file_id": "x"}
        headers = {"authorization": f"Bearer {key}"}
        with httpx2.Client(
            base_url=f"http://127.0.0.1:{self._serve.port}", headers=headers
        ) as http:
            for _ in range(CROWD):
                http.post("/v1/batches", json=fields).raise_for_status()
        return key

    def _run(self, release: Release, command: list[str]) -> Problems:
        where = {
            "url": f"http://127.0.0.1:{self._serve.port}",
            "key": make_key(self._serve.data, release.name),
            "colleague_key": make_key(self._serve.data, release.name),
            "stranger_key": self._stranger_key,
            "crowded_key": self._crowded_key if release.sdk.package == "openai" else "",
            "model": "sim",
            "operations": release.operations,
        }
        out, err = _talk(command, json.dumps(where))
        unreported = f"not reported; the client's last words: {err[-3000:]}"
        problems: Problems = dict.fromkeys(release.operations, unreported)
        for line in out.split("\n")[:-1]:
            report = json.loads(line)
            problems[report["operation"]] = report["problem"]
        log = self._serve.log.read_text()[-3000:]
        return {name: each and f"{each}\nserver's log: {log}" for name, each in problems.items()}


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    data = tmp_path_factory.mktemp("wire") / "data"
    stranger_key = make_key(data, "stranger")
    serve = Serve(data, "--engine", "sim:models=sim|org/sim").start()
    try:
        yield Clients(serve, stranger_key)
    finally:
        serve.stop()


@pytest.fixture
def problems(release: Release, clients: Clients) -> Problems:
    """What the operations of the test's release met; runs them when they did not run yet."""
    if release.sdk.runs_on_node:
        for program in ("node", "npm"):
            if shutil.which(program) is None:
                missing(f"{program} is missing: the SDKs for it are not tested")
    return clients.problems(release)


def make_key(data: Path, tenant: str) -> str:
    """A new API key, as `batchmill keys create` prints it."""
    command = [sys.executable, "-m", "batchmill", "keys", "create"]
    command += ["--tenant", tenant, "--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def missing(message: str) -> None:
    """Skip where a person may lack a program; fail where CI must have it."""
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def _command(release: Release) -> list[str]:
    if release.sdk.runs_on_node:
        home = wire_environments.node(release.name)
        return ["node", str(CLIENTS / release.sdk.program), str(home)]
    return [str(wire_environments.python(release.name)), str(CLIENTS / release.sdk.program)]


def _talk(command: list[str], orders: str) -> tuple[str, str]:
    """What a client says to its orders; one that takes too long is ended, and heard so far."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=_environment()
    ) as client:
        try:
            return client.communicate(orders, timeout=_MOST_SECONDS)
        except subprocess.TimeoutExpired:
            client.kill()
            out, err = client.communicate()
            return out, f"{err}\nended after {_MOST_SECONDS} s"


def _environment() -> dict[str, str]:
    """Ours without keys and proxies that an SDK would take up, and without our own modules."""
    taken_up = ("MISTRAL_", "OPENAI_", "PYTHONPATH", "BATCHMILL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(taken_up)}
    return kept | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
