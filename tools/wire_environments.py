"""Sets up the environments of the vendors' SDKs that `tests/wire` runs, one per release.

Each stands under `.cache/wire/<name>`: a virtual environment for `requirements/wire/<name>.txt`,
a folder of Node packages for `tests/wire/node/<name>`. A stamp holds the hash of the lock file, so
that a second call is quick, and a file lock keeps two callers from colliding.
Run as a program it sets up all of them, or those that it is told: `wire_environments.py NAME...`
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".cache" / "wire"
PYTHON_LOCKS = ROOT / "requirements" / "wire"
NODE_LOCKS = ROOT / "tests" / "wire" / "node"
AT_ONCE = 4
"""Environments set up side by side: an installer waits for the network half of its time."""


class SetupError(Exception):
    """An environment could not be made; the message is the installer's last words."""


def python(name: str) -> Path:
    """The interpreter of that environment, made now if it is not there."""
    lock = PYTHON_LOCKS / f"{name}.txt"
    home = CACHE / name
    with _alone(name), _stamped(home, lock, sys.version) as fresh:
        if not fresh:
            shutil.rmtree(home, ignore_errors=True)
            venv.create(home, with_pip=False, symlinks=True)
            _run(
                *(sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")),
                *("install", "--quiet", "--disable-pip-version-check", "--no-compile"),
                *("--only-binary", ":all:", "--require-hashes", "-r", str(lock)),
            )
    return home / "bin" / "python"


def node(name: str) -> Path:
    """The folder that holds `node_modules` of that environment, made now if it is not there."""
    lock = NODE_LOCKS / name / "package-lock.json"
    home = CACHE / name
    with _alone(name), _stamped(home, lock, "npm") as fresh:
        if not fresh:
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)
            for part in (lock, lock.with_name("package.json")):
                shutil.copy(part, home)
            _run(
                "npm", "ci", "--silent", "--no-audit", "--no-fund", "--prefix", str(home.resolve())
            )
    return home


def names() -> tuple[list[str], list[str]]:
    """The Python environments and the Node environments that have a lock file."""
    return (
        sorted(lock.stem for lock in PYTHON_LOCKS.glob("*.txt")),
        sorted(lock.parent.name for lock in NODE_LOCKS.glob("*/package-lock.json")),
    )


@contextmanager
def _alone(name: str) -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _stamped(home: Path, lock: Path, tool: str) -> Iterator[bool]:
    """Says whether the environment is up to date; writes its stamp once it is."""
    stamp = home / ".stamp"
    wanted = hashlib.sha256(lock.read_bytes() + tool.encode()).hexdigest()
    fresh = stamp.exists() and stamp.read_text() == wanted
    yield fresh
    if not fresh:
        stamp.write_text(wanted)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip()[-2000:]
        raise SetupError(f"{command[0]} could not make the environment: {words}")


def main() -> int:
    """Set up what the command line names, or everything."""
    pythons, nodes = names()
    wanted = sys.argv[1:] or (pythons + nodes)
    if shutil.which("npm") is None:
        for name in sorted({*wanted} & {*nodes}):
            print(f"npm is missing: {name} is left out")
        wanted = [name for name in wanted if name not in nodes]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for name in threads.map(lambda name: _set_up(name, is_node=name in nodes), wanted):
            print(f"Set up .cache/wire/{name}", flush=True)
    return 0


def _set_up(name: str, *, is_node: bool) -> str:
    (node if is_node else python)(name)
    return name


if __name__ == "__main__":
    sys.exit(main())
