"""What a parent hears: the first SIGTERM or SIGINT asks it to stop, the second to hurry; SIGHUP to
read its configuration anew."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field

from batchmill.app.supervise import Supervisor


@dataclass(slots=True)
class Told:
    """What signals have said so far."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    reread: asyncio.Event = field(default_factory=asyncio.Event)
    hurry: bool = False

    @property
    def exit_code(self) -> int:
        """1 where children were killed at a second signal."""
        return 1 if self.hurry else 0


def listen_to_signals(supervisor: Supervisor) -> Told:
    """What signals will have said; a second one kills the supervisor's children."""
    told = Told()

    def on_signal() -> None:
        if told.stop.is_set():
            told.hurry = True
            supervisor.kill()
        told.stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, told.reread.set)
    return told
