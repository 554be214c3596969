"""Reading ahead: the next reads are under way while the last one is used, within a bound of bytes.

What it is for: a store that answers after tens of milliseconds, where one read after the other
would wait most of the time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

Step = tuple[int, Callable[[], Coroutine[Any, Any, T]]]
"""How many bytes a read brings at most, and the read."""


async def ahead(steps: Iterable[Step[T]], limit_bytes: int) -> AsyncGenerator[T, None]:
    """What the reads bring, in their order. Those under way and the one being used are never
    more than `limit_bytes` together, but for a single one that is larger.

    Reads that nobody waits for any longer are cancelled when the generator is closed.
    """
    running: deque[tuple[int, asyncio.Task[T]]] = deque()
    held_bytes = 0
    try:
        for size_bytes, read in steps:
            while running and held_bytes + size_bytes > limit_bytes:
                yield await running[0][1]
                held_bytes -= running.popleft()[0]
            running.append((size_bytes, asyncio.create_task(read())))
            held_bytes += size_bytes
        while running:
            yield await running[0][1]
            running.popleft()
    finally:
        tasks = [task for _, task in running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
