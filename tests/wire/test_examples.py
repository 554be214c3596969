"""What the README and the examples tell people to run does run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.serving import serving

ROOT = Path(__file__).parents[2]


def test_the_start_of_the_readme_works_as_written(tmp_path: Path) -> None:
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    with serving(tmp_path / "data", "--engine", "sim") as serve:
        here = code.replace("http://127.0.0.1:8470", f"http://127.0.0.1:{serve.port}")
        assert here != code
        done = subprocess.run(
            [sys.executable, "-c", here], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SUCCESS 40 of 40\n")
    assert len(done.stdout.split("\n{")) == 41


def test_the_demo_answers_every_line() -> None:
    demo = [sys.executable, "examples/demo.py"]
    done = subprocess.run(demo, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS: 40 of 40 lines answered, 0 failed" in done.stdout
    assert "its words mean nothing" in done.stdout
