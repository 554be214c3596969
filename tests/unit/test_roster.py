"""Which engines there are now (app/roster.py), and when a file is read anew (app/following.py)."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from batchmill.app.following import File, Source
from batchmill.app.roster import Roster, one_family, replicas
from batchmill.config import load
from batchmill.errors import ConfigError
from batchmill.fleet import EngineSpec

GPU = '[[engines]]\nname = "gpu"\nurl = "http://gpu:8000/v1"\n'
TPU = '[[engines]]\nname = "tpu"\nurl = "http://tpu:8000/v1"\n'
MANY = GPU + 'replicas = "dns"\n'


class Names:
    """A resolver that a test answers for."""

    def __init__(self, *addresses: str) -> None:
        self.answer: Sequence[str] | OSError = addresses

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        assert (host, port) == ("gpu", 8000)
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


def roster_of(folder: Path, text: str, resolve: Names | None = None) -> tuple[Roster, File, Path]:
    path = folder / "batchmill.toml"
    path.write_text(text)
    source = Source({"config": path})
    roster = Roster(source.settings(), resolve)
    file = File(source, roster)
    file.read()
    return roster, file, path


def names(roster: Roster) -> list[str]:
    return [spec.name for spec in roster.specs()]


def test_a_file_that_changed_is_read_once_it_is_the_same_at_two_looks(tmp_path: Path) -> None:
    roster, file, path = roster_of(tmp_path, GPU)
    path.write_text(GPU + TPU)
    file.look()
    assert names(roster) == ["gpu"]
    file.look()
    assert names(roster) == ["gpu", "tpu"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[engines]]\nname = 3\n", ["engines.1.name", "engines.1.url"]),
        ("[[engines", ["is not valid TOML"]),
        (GPU + GPU, ["two engines named"]),
    ],
)
def test_a_file_with_mistakes_is_refused_as_a_whole_in_one_line(
    tmp_path: Path, text: str, says: list[str]
) -> None:
    roster, file, path = roster_of(tmp_path, GPU)
    path.write_text(text)
    with capture_logs() as lines:
        for _ in range(5):
            file.look()
    [line] = lines
    assert line["event"] == "configuration_refused"
    for each in says:
        assert each in str(line["problems"])
    assert names(roster) == ["gpu"]
    path.write_text(TPU)
    file.read()
    assert names(roster) == ["tpu"]


def test_a_file_that_is_gone_leaves_the_engines(tmp_path: Path) -> None:
    roster, file, path = roster_of(tmp_path, GPU)
    path.unlink()
    with capture_logs() as lines:
        file.look()
        file.look()
    assert [line["event"] for line in lines] == ["configuration_refused"]
    assert names(roster) == ["gpu"]


def test_what_else_changed_is_said_to_need_a_restart(tmp_path: Path) -> None:
    roster, file, path = roster_of(tmp_path, GPU)
    path.write_text("port = 1\n" + GPU + '[[engines]]\nurl = "sim"\n[models]\na = "b"\n')
    with capture_logs() as lines:
        file.read()
    [said] = [each["settings"] for each in lines if each["event"] == "configuration_needs_restart"]
    assert said == ["port", "engines (local and sim)"]
    assert names(roster) == ["gpu"]
    assert roster.settings.models == {"a": "b"}
    assert roster.settings.port == 8470


def test_engines_of_the_command_line_stay(tmp_path: Path) -> None:
    path = tmp_path / "batchmill.toml"
    path.write_text("")
    source = Source({"config": path, "engines": ["http://a/v1"]})
    roster = Roster(source.settings())
    path.write_text(GPU)
    File(source, roster).read()
    assert names(roster) == ["a"]


async def test_every_address_of_a_name_is_an_engine(tmp_path: Path) -> None:
    resolve = Names("10.0.0.2", "10.0.0.1")
    roster, _, _ = roster_of(tmp_path, MANY, resolve)
    assert names(roster) == ["gpu"]
    await roster.look_up()
    assert names(roster) == ["gpu@10.0.0.1", "gpu@10.0.0.2"]
    assert {spec.url for spec in roster.specs()} == {"http://gpu:8000/v1"}
    resolve.answer = ["10.0.0.2"]
    await roster.look_up()
    assert [spec.connect_to for spec in roster.specs()] == ["10.0.0.2"]


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (socket.gaierror(socket.EAI_NONAME, "no such name"), ["gpu"]),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), ["gpu@10.0.0.1"]),
        (OSError("away"), ["gpu@10.0.0.1"]),
    ],
)
async def test_replicas_stay_while_no_name_server_answers(
    tmp_path: Path, error: OSError, left: list[str]
) -> None:
    resolve = Names("10.0.0.1")
    roster, _, _ = roster_of(tmp_path, MANY, resolve)
    await roster.look_up()
    resolve.answer = error
    await roster.look_up()
    assert names(roster) == left


def test_a_replica_with_two_addresses_is_one_engine() -> None:
    assert one_family(["::1", "10.0.0.2", "10.0.0.1"]) == ("10.0.0.1", "10.0.0.2")
    assert one_family(["fe80::2", "fe80::1"]) == ("fe80::1", "fe80::2")
    assert one_family([]) == ()


def test_a_replica_is_its_engine_at_an_address() -> None:
    spec = EngineSpec("gpu", "https://gpu/v1", key="k")
    [one] = replicas(spec, ["10.0.0.1"])
    assert one == EngineSpec("gpu@10.0.0.1", spec.url, key="k", connect_to="10.0.0.1")


@pytest.mark.parametrize("url", ["local", "sim:latency=1ms"])
def test_only_an_engine_with_a_url_has_replicas(tmp_path: Path, url: str) -> None:
    text = f'[[engines]]\nurl = "{url}"\nreplicas = "dns"\n'
    (tmp_path / "batchmill.toml").write_text(text)
    with pytest.raises(ConfigError, match="replicas"):
        load({"config": tmp_path / "batchmill.toml"}, {})
