"""The supervisor with real processes: whole Python modules written for the test."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from batchmill.app import supervise
from batchmill.app.supervise import Child, supervising
from tests.serving import command_of, living

WRITES_AND_WAITS = """
import os, signal, sys, time
with open({log!r}, "a") as log:
    log.write(f"{{os.getpid()}} {{sys.stdin.readline().strip()}} {{sys.argv[1:]}}\\n")
{then}
"""
WAITS = "signal.pause()"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a module that notes each of its lives in `log` and then does what it is told."""
    monkeypatch.setenv("PYTHONPATH", f"{os.environ.get('PYTHONPATH', '')}:{tmp_path}:src")

    def write(name: str, then: str) -> Path:
        log = tmp_path / f"{name}.log"
        (tmp_path / f"{name}.py").write_text(WRITES_AND_WAITS.format(log=str(log), then=then))
        return log

    return write


async def lives(log: Path, count: int) -> list[str]:
    """The lines of the log once there are so many."""
    async with asyncio.timeout(20):
        while not log.exists() or len(log.read_text().splitlines()) < count:
            await asyncio.sleep(0.02)
    return log.read_text().splitlines()


async def test_a_child_gets_its_orders_and_arguments_and_no_secret_in_its_command(module) -> None:
    log = module("obeys", WAITS)
    async with supervising() as supervisor:
        supervisor.start(Child("one", "obeys", ("--port", "7"), orders='{"key": "hush"}'))
        [line] = await lives(log, 1)
        pid = supervisor.pid("one")
        assert pid is not None
        assert line == f"{pid} {{\"key\": \"hush\"}} ['--port', '7']"
        assert "hush" not in " ".join(command_of(pid))
        assert b"hush" not in Path(f"/proc/{pid}/environ").read_bytes()


async def test_a_child_that_dies_is_started_again_after_its_end_was_told(module) -> None:
    log = module("dies", WAITS)
    told: list[int] = []

    async def died() -> None:
        told.append(len(log.read_text().splitlines()))

    async with supervising() as supervisor:
        supervisor.start(Child("one", "dies", died=died))
        for life in (1, 2, 3):
            [*_, line] = await lives(log, life)
            if life < 3:
                os.kill(int(line.split()[0]), signal.SIGKILL)
        assert told == [1, 2]


async def test_a_child_that_keeps_dying_is_started_ever_more_rarely(module, monkeypatch) -> None:
    monkeypatch.setattr(supervise, "FIRST_DELAY_SECONDS", 0.02)
    monkeypatch.setattr(supervise, "LONGEST_DELAY_SECONDS", 0.05)
    log = module("keeps_dying", "sys.exit(3)")
    async with supervising() as supervisor:
        supervisor.start(Child("one", "keeps_dying"))
        await lives(log, 4)


async def test_stop_asks_first_and_waits_for_the_end(module) -> None:
    log = module(
        "says_goodbye",
        f"""
def goodbye(*_):
    with open({{log!r}}, "a") as log:
        log.write("goodbye\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, goodbye)
with open({{log!r}}, "a") as log:
    log.write("ready\\n")
{WAITS}
""",
    )
    path = log.with_suffix(".py")
    path.write_text(path.read_text().replace("{log!r}", repr(str(log))))
    async with supervising() as supervisor:
        supervisor.start(Child("one", "says_goodbye"))
        await lives(log, 2)
        await supervisor.stop(["one"], 10)
        assert (await lives(log, 3))[-1] == "goodbye"
        assert supervisor.pid("one") is None


async def test_a_child_that_does_not_end_in_time_is_killed(module) -> None:
    log = module(
        "stubborn", f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(flush=True)\n{WAITS}"
    )
    async with supervising() as supervisor:
        supervisor.start(Child("one", "stubborn"))
        [line] = await lives(log, 1)
        pid = int(line.split()[0])
        await supervisor.stop(["one"], 0.2)
        assert not living([pid])


async def test_leaving_the_block_kills_every_child(module) -> None:
    log = module("waits", WAITS)
    async with supervising() as supervisor:
        supervisor.start(Child("one", "waits"))
        supervisor.start(Child("two", "waits"))
        pids = [int(line.split()[0]) for line in await lives(log, 2)]
    assert not living(pids)


async def test_a_child_that_is_between_two_lives_stops_at_once(module, monkeypatch) -> None:
    monkeypatch.setattr(supervise, "FIRST_DELAY_SECONDS", 60.0)
    module("ends", "sys.exit(3)")
    ended = asyncio.Event()

    async def died() -> None:
        ended.set()

    async with supervising() as supervisor:
        supervisor.start(Child("one", "ends", died=died))
        await ended.wait()
        async with asyncio.timeout(5):
            await supervisor.stop(["one"], 60)
