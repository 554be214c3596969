"""The code keeps its own rules: sizes, names, locks."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
LOCKS = sorted((ROOT / "requirements").rglob("*.txt"))
MODULE_LINES = 400
FUNCTION_LINES = 50
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "base"}


def tracked() -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MODULE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < FUNCTION_LINES, node.name


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [path for path in SOURCES if path.stem in VAGUE]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_every_module_says_what_lives_in_it(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_names_that_a_module_offers_exist() -> None:
    code = (
        "import importlib, pkgutil, batchmill\n"
        "for found in pkgutil.walk_packages(batchmill.__path__, 'batchmill.'):\n"
        "    if '__main__' in found.name or '.versions.' in found.name or '.env' in found.name:\n"
        "        continue\n"
        "    module = importlib.import_module(found.name)\n"
        "    for name in getattr(module, '__all__', ()):\n"
        "        getattr(module, name)\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_no_package_registry_is_named_in_a_tracked_file() -> None:
    hosts = re.compile(
        "|".join(
            re.escape(".".join(words))
            for words in (
                ("pypi", "org"),
                ("pythonhosted", "org"),
                ("registry", "npmjs"),
                ("deb", "debian", "org"),
                ("crates", "io"),
                ("proxy", "golang"),
            )
        )
    )
    found = [path for path in tracked() if hosts.search(path.read_text(errors="replace"))]
    assert not found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_lock_file_pins_with_hashes_and_names_no_index(lock: Path) -> None:
    text = lock.read_text()
    entries = re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n?", "", text).strip())
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9][a-z0-9._-]*(\[[a-z,-]+\])?==", entry), entry
        assert "--hash=sha256:" in entry, entry
    assert not re.search(r"(?m)^\s*(-i|-f|--index-url|--extra-index-url|--find-links)", text)
    assert "://" not in re.sub(r"(?m)#.*$", "", text)


def test_node_lock_files_carry_hashes_and_no_address() -> None:
    locks = [path for path in tracked() if path.name == "package-lock.json"]
    for lock in locks:
        text = lock.read_text()
        assert '"resolved"' not in text, lock
        assert '"integrity"' in text, lock


def test_smaller_lock_files_agree_with_the_full_one() -> None:
    full = pins(ROOT / "requirements" / "test.txt")
    for name in ("build", "check", "demo", "image"):
        assert pins(ROOT / "requirements" / f"{name}.txt").items() <= full.items(), name


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"(?m)^([a-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)", lock.read_text()))
