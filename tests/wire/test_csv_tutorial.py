"""The tutorial on tables runs as it stands, and prints what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "csv.md"


@pytest.mark.timeout(300)
def test_the_tutorial_on_a_csv_runs_as_it_stands(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    program = tmp_path / "bin" / "batchmill"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m batchmill "$@"\n')
    program.chmod(0o755)
    blocks = re.findall(r"```(sh|text)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "".join(text for kind, text in blocks if kind == "sh")],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(text for kind, text in blocks if kind == "text")
    assert "answers.csv exists already" in done.stderr
