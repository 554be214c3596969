"""Which releases of the SDKs are tested, and which operations each of them has.

The operations are read from the sources of the clients, so that each is one test by name.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tools.wire_environments import NODE_LOCKS, PYTHON_LOCKS

CLIENTS = Path(__file__).parent / "clients"
_PYTHON = re.compile(r'^@operation(?:\(since="([\d.]+)"\))?\ndef (\w+)\(', re.MULTILINE)
_NODE = re.compile(r'^operation\(\s*"([\w.]+)"(?:, \{ since: "([\d.]+)" \})?,', re.MULTILINE)


@dataclass(frozen=True)
class Sdk:
    """A vendor's SDK for one language: its package, and our client program for it.

    Its environments are called `<name>-<release>`, its operations stand in the program's folder.
    """

    name: str
    package: str
    program: str
    folder: str
    runs_on_node: bool = False


@dataclass(frozen=True)
class Release:
    """One release of one SDK, in the environment of that name."""

    name: str
    sdk: Sdk
    version: tuple[int, ...]
    operations: tuple[str, ...]


SDKS = {
    "mistral": (
        Sdk("mistral-py", "mistralai", "mistral_py.py", "mistral_python"),
        Sdk("mistral-ts", "@mistralai/mistralai", "mistral_ts.mjs", "mistral_node", True),
    ),
    "openai": (
        Sdk("openai-py", "openai", "openai_py.py", "openai_python"),
        Sdk("openai-node", "openai", "openai_node.mjs", "openai_node", True),
    ),
}


def releases(vendor: str) -> list[Release]:
    """Every release of the vendor's SDKs that has a lock file."""
    return [release for sdk in SDKS[vendor] for release in _releases(sdk)]


def cases(vendor: str) -> list[Any]:
    """Each operation of each release, as a parameter set of its own."""
    return [
        pytest.param(release, operation, id=f"{release.name}-{operation}")
        for release in releases(vendor)
        for operation in release.operations
    ]


def _releases(sdk: Sdk) -> list[Release]:
    if sdk.runs_on_node:
        node = sorted(NODE_LOCKS.glob(f"{sdk.name}-*/package-lock.json"))
        return [_release(sdk, lock.parent.name, _installed(lock, sdk.package)) for lock in node]
    python = sorted(PYTHON_LOCKS.glob(f"{sdk.name}-*.txt"))
    return [_release(sdk, lock.stem, _locked(lock.read_text(), sdk.package)) for lock in python]


def _release(sdk: Sdk, name: str, version: str) -> Release:
    number = _number(version)
    operations = (o for o, since in _operations(sdk) if number >= _number(since))
    return Release(name, sdk, number, tuple(operations))


def _operations(sdk: Sdk) -> list[tuple[str, str]]:
    """Every operation of the SDK's client, with the first release that has it."""
    found = []
    form = "*.mjs" if sdk.runs_on_node else "*.py"
    for source in sorted((CLIENTS / sdk.folder).glob(form)):
        text = source.read_text()
        if sdk.runs_on_node:
            here = [(name, since) for name, since in _NODE.findall(text)]
            marks = re.findall(r"^operation\(", text, re.MULTILINE)
        else:
            here = [
                (f"{source.stem}.{name.rstrip('_')}", since)
                for since, name in _PYTHON.findall(text)
            ]
            marks = re.findall(r"^@operation", text, re.MULTILINE)
        assert len(here) == len(marks), source
        found += here
    assert found
    return found


def _locked(text: str, package: str) -> str:
    match = re.search(rf"^{package}==([\d.]+)", text, re.MULTILINE)
    assert match is not None, package
    return match[1]


def _installed(lock: Path, package: str) -> str:
    packages = json.loads(lock.read_text())["packages"]
    return str(packages[f"node_modules/{package}"]["version"])


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)
