"""Every tutorial, and the page on the client, runs as it stands, against a real server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Serve, serving

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXPECTED = {
    "client": [
        "The parcel came early. invalid_schema",
        "completed 50 of 50",
        "q-49 sim ",
        "came after it",
        "('asked_for', ",
        "No batch job found",
    ],
    "tutorials/mistral-sdk": ["SUCCESS 3 of 3 answered", "It is a chair. -> sim "],
    "tutorials/openai-sdk": [
        "completed 2 answered 1 failed",
        "question-2 failed: 422",
        "retried as batch_",
    ],
    "tutorials/two-models": ["small: ", "of 16 right, 0 without an answer", "they differ on"],
}
"""What each prints, among other things."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    data = tmp_path_factory.mktemp("tutorials") / "data"
    with serving(data, "--engine", "sim:models=small|large") as serve:
        yield serve


@pytest.mark.parametrize("name", EXPECTED)
def test_the_code_of_a_tutorial_runs_as_it_stands(name: str, served: Serve, tmp_path: Path) -> None:
    page = (DOCS / f"{name}.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    here = code.replace("http://127.0.0.1:8470", f"http://127.0.0.1:{served.port}")
    assert here != code
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", here],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(text in done.stdout for text in EXPECTED[name]), done.stdout


def test_every_tutorial_that_shows_code_is_run() -> None:
    pages = (DOCS / "tutorials").glob("*.md")
    shown = {f"tutorials/{page.stem}" for page in pages if "```python" in page.read_text()}
    assert shown == set(EXPECTED) - {"client"}
