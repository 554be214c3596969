"""The workers of a fleet while they are struck: each in one of a few conditions, brought back."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.chaos.schedule import Blow, Strike
from tests.fleet import Fleet, Member
from tests.serving import command_of, descendants


@dataclass
class Crew:
    """The workers of a fleet. A blow lands on the worker it is meant for, or on the next that is
    up; where none is, it is counted as missed. Every worker that was struck comes back."""

    fleet: Fleet
    lease_seconds: float
    landed: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    _down: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))

    def strike(self, strike: Strike) -> bool:
        """Deal one blow; False where no worker was up. What follows from it runs aside."""
        victim = self._pick(strike.worker)
        if victim is None:
            self.missed += 1
            return False
        self.landed[strike.blow] += 1
        blows = {
            Blow.LOST: self._lose,
            Blow.KILLED: self._kill,
            Blow.FROZEN: self._freeze,
            Blow.STOPPED: self._stop,
        }
        self._threads.submit(self._deal, blows[strike.blow], victim)
        return True

    def rest(self) -> None:
        """Wait until every worker is back."""
        self._threads.shutdown(wait=True)

    def _pick(self, number: int) -> Member | None:
        workers = self.fleet.workers
        with self._lock:
            for place in range(len(workers)):
                member = workers[(number + place) % len(workers)]
                if member.name not in self._down:
                    self._down.add(member.name)
                    return member
        return None

    def _deal(self, blow: object, victim: Member) -> None:
        assert callable(blow)
        try:
            blow(victim)
            if not victim.lives:
                victim.start()
        finally:
            with self._lock:
                self._down.discard(victim.name)

    def _lose(self, victim: Member) -> None:
        victim.kill()

    def _kill(self, victim: Member) -> None:
        """Kill the child that works; gives its parent the time to start another."""
        for pid in descendants(victim.pid):
            if any(word.endswith("app.worker") for word in command_of(pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(1.0)

    def _freeze(self, victim: Member) -> None:
        victim.freeze()
        time.sleep(self.lease_seconds + 1.0)
        victim.thaw()

    def _stop(self, victim: Member) -> None:
        victim.drain()
