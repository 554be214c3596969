"""Which releases of the SDKs are tested, and which operations each of them has.

The operations are read from the sources of the clients, so that each is one test by name.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from tools.wire_environments import NODE_LOCKS, PYTHON_LOCKS

CLIENTS = Path(__file__).parent / "clients"
_PYTHON = re.compile(r'^@operation(?:\(since="([\d.]+)"\))?\ndef (\w+)\(', re.MULTILINE)
_NODE = re.compile(r'^operation\(\s*"([\w.]+)"(?:, \{ since: "([\d.]+)" \})?,', re.MULTILINE)


@dataclass(frozen=True)
class Release:
    """One release of one SDK, in the environment of that name."""

    name: str
    version: tuple[int, ...]
    operations: tuple[str, ...]

    @property
    def runs_on_node(self) -> bool:
        return "-ts-" in self.name


def releases() -> list[Release]:
    """Every release that has a lock file."""
    python = [
        _release(lock.stem, _locked(lock.read_text(), r"^mistralai==([\d.]+)"), _of_python())
        for lock in sorted(PYTHON_LOCKS.glob("mistral-py-*.txt"))
    ]
    node = [
        _release(lock.parent.name, _installed(lock), _of_node())
        for lock in sorted(NODE_LOCKS.glob("mistral-ts-*/package-lock.json"))
    ]
    return python + node


def _release(name: str, version: str, operations: list[tuple[str, str]]) -> Release:
    number = _number(version)
    return Release(name, number, tuple(o for o, since in operations if number >= _number(since)))


def _of_python() -> list[tuple[str, str]]:
    found = []
    for source in sorted((CLIENTS / "mistral_python").glob("*.py")):
        text = source.read_text()
        here = [
            (f"{source.stem}.{name.rstrip('_')}", since) for since, name in _PYTHON.findall(text)
        ]
        assert len(here) == len(re.findall(r"^@operation", text, re.MULTILINE)), source
        found += here
    assert found
    return found


def _of_node() -> list[tuple[str, str]]:
    found = []
    for source in sorted((CLIENTS / "mistral_node").glob("*.mjs")):
        text = source.read_text()
        here = [(name, since) for name, since in _NODE.findall(text)]
        assert len(here) == len(re.findall(r"^operation\(", text, re.MULTILINE)), source
        found += here
    assert found
    return found


def _locked(text: str, pattern: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    assert match is not None, pattern
    return match[1]


def _installed(lock: Path) -> str:
    packages = json.loads(lock.read_text())["packages"]
    return str(packages["node_modules/@mistralai/mistralai"]["version"])


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)
