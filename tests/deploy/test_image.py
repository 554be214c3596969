"""The image: not root, nothing that is not locked, nothing in it that is not named.

No Docker daemon is needed: the file is linted and read.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.meta.test_layout import pins
from tools.deploy_tools import Tools

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
TEXT = DOCKERFILE.read_text()


def instructions() -> list[list[str]]:
    """The steps of each stage, with continued lines joined and comments left out."""
    text = re.sub(r"(?m)^#.*\n", "", TEXT)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    stages: list[list[str]] = [[]]
    for line in filter(None, lines):
        if line.startswith("FROM "):
            stages.append([])
        stages[-1].append(line)
    return stages[1:]


def of(stage: list[str], word: str) -> list[str]:
    return [line.removeprefix(f"{word} ") for line in stage if line.startswith(f"{word} ")]


def test_the_linter_has_nothing_to_warn_of(tools: Tools) -> None:
    done = subprocess.run(
        [str(tools.hadolint), "--no-color", "--failure-threshold", "warning", str(DOCKERFILE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_it_runs_as_a_user_by_number_that_is_not_root() -> None:
    user = of(instructions()[-1], "USER")[-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_nothing_goes_through_a_shell() -> None:
    steps = [line for stage in instructions() for word in STEPS for line in of(stage, word)]
    assert len(steps) >= len(STEPS)
    assert all(isinstance(json.loads(step), list) for step in steps)


STEPS = ("RUN", "ENTRYPOINT", "CMD")


def test_packages_come_from_the_locks_by_hash_and_as_wheels() -> None:
    installs = [json.loads(step) for step in of(instructions()[0], "RUN") if '"install"' in step]
    assert installs
    for words in installs:
        if "--no-index" in words:
            assert "--no-deps" in words
        else:
            assert "--require-hashes" in words
            assert ":all:" in words
            lock = ROOT / words[words.index("-r") + 1]
            assert pins(lock).items() <= pins(ROOT / "requirements" / "test.txt").items()


def test_every_version_that_all_extras_need_is_in_the_images_lock() -> None:
    locked = set(pins(ROOT / "requirements" / "image.txt"))
    assert {"asyncpg", "obstore", "opentelemetry-sdk", "uvicorn", "xllamacpp"} <= locked


def test_the_last_stage_installs_nothing_and_has_no_pip_of_its_own() -> None:
    build, last = instructions()
    assert '"pip"' not in " ".join(last)
    assert '["python", "-m", "venv", "--without-pip", "/opt/batchmill"]' in of(build, "RUN")
    assert of(last, "COPY") == ["--from=build /opt/batchmill /opt/batchmill"]


def test_only_what_it_is_built_from_goes_to_the_builder() -> None:
    lines = DOCKERFILE.with_suffix(".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    given = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {word for step in of(instructions()[0], "COPY") for word in step.split()[:-1]}
    assert given == copied


def test_it_keeps_data_where_a_volume_goes_and_writes_no_bytecode() -> None:
    settings = of(instructions()[-1], "ENV")[0]
    assert "BATCHMILL_DATA=/data" in settings
    assert "PYTHONDONTWRITEBYTECODE=1" in settings
    assert of(instructions()[-1], "WORKDIR") == ["/data"]


def test_it_says_what_it_is() -> None:
    labels = of(instructions()[-1], "LABEL")[0]
    for name in ("title", "description", "licenses", "version"):
        assert f"org.opencontainers.image.{name}=" in labels


def test_no_part_of_it_is_a_health_check_since_a_worker_answers_no_requests() -> None:
    assert not any(of(stage, "HEALTHCHECK") for stage in instructions())
