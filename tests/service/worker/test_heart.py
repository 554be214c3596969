"""A heart beats for a worker that runs, and for no other."""

from __future__ import annotations

from pathlib import Path

from batchmill.clock import SystemClock
from batchmill.core.beat import Heart
from batchmill.fleet import Beat, Timing
from tests.service.worker.mill import milling

TIMING = Timing(lease_seconds=0.5, beat_seconds=0.1)


async def test_nothing_is_renewed_for_a_worker_whose_loop_stands_still(tmp_path: Path) -> None:
    async with milling(tmp_path, timing=TIMING) as mill:
        clock = SystemClock()
        owner = await mill.ledger.register("w", "1", "host", 1)

        async def open_ledger() -> object:
            return await mill._open()

        heart = Heart(
            open_ledger,  # type: ignore[arg-type]
            owner,
            clock,
            TIMING,
            held=tuple,
            beat=Beat,
            told=lambda *_: None,
        )
        heart.start()

        async def is_fenced() -> bool:
            return heart.fenced(clock.boot())

        async def works() -> bool:
            heart.stir()
            return not heart.fenced(clock.boot())

        try:
            await mill.until(is_fenced)
            await mill.until(works)
        finally:
            await heart.stop()
