from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from batchmill.engines.local import DEMO_PATH

RECIPE = Path(__file__).parents[3] / "tools" / "make_demo_model.py"


def test_the_recipe_writes_the_demo_model_that_ships_byte_for_byte(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    spec = importlib.util.spec_from_file_location("make_demo_model", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    sys.modules["make_demo_model"] = recipe
    spec.loader.exec_module(recipe)
    recipe.make(tmp_path / "demo.gguf")
    assert (tmp_path / "demo.gguf").read_bytes() == DEMO_PATH.read_bytes()


def test_the_demo_model_is_small() -> None:
    assert DEMO_PATH.stat().st_size < 2_000_000
