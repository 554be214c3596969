"""The wheel, installed with its own dependencies alone, does what the README begins with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import chat_lines

ROOT = Path(__file__).parents[2]
ALONE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def done(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=ALONE,
        capture_output=True,
        text=True,
        check=False,
        timeout=540,
    )


@pytest.fixture(scope="module")
def batchmill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of an environment in which nothing else was asked for."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w"]
    built = done(*wheel, folder, ROOT, folder=folder)
    assert built.returncode == 0, built.stderr
    made = done(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    assert made.returncode == 0, made.stderr
    [file] = folder.glob("*.whl")
    installed = done(folder / "venv/bin/pip", "install", "-q", "--no-compile", file, folder=folder)
    if installed.returncode and "No matching distribution" in installed.stderr:
        if os.environ.get("CI"):
            pytest.fail(installed.stderr)
        pytest.skip("the dependencies cannot be fetched here")
    assert installed.returncode == 0, installed.stderr
    return folder / "venv/bin/batchmill"


@pytest.mark.timeout(900)
def test_the_wheel_alone_runs_a_file_and_a_table(batchmill: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(chat_lines(5))
    (tmp_path / "in.csv").write_text("q\na\nb\n")
    engine = ("--engine", "sim")
    lines = done(batchmill, "run", "-i", "in.jsonl", "-o", "-", *engine, folder=tmp_path)
    assert lines.returncode == 0, lines.stderr
    assert len([json.loads(line) for line in lines.stdout.splitlines()]) == 5
    asked = ("-i", "in.csv", "-o", "out.csv", "--prompt", "{{q}}")
    rows = done(batchmill, "run", *asked, *engine, folder=tmp_path)
    assert rows.returncode == 0, rows.stderr
    assert (tmp_path / "out.csv").read_text().startswith("q,response,status,error,usage\na,")


@pytest.mark.timeout(900)
def test_the_wheel_alone_serves(batchmill: Path, tmp_path: Path) -> None:
    command = [str(batchmill), "serve", "--engine", "sim", "--port", "0", "--data", "data"]
    serve = subprocess.Popen(
        command, cwd=tmp_path, env=ALONE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert serve.stdout is not None
        said = [serve.stdout.readline().decode() for _ in range(2)]
        assert "listens on http://127.0.0.1:" in said[0]
        assert "sim serves sim" in said[1]
        serve.terminate()
        assert serve.wait(20) == 0
    finally:
        serve.kill()
        serve.communicate()
