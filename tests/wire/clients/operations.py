"""What a client can be asked to do, by name, and how it tells what came of it."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, overload

MAX_PROBLEM = 5000
Operation: TypeAlias = "Callable[[Any], None]"
"""Takes the `World` of its SDK."""

OPERATIONS: dict[str, Operation] = {}


@overload
def operation(run: Operation) -> Operation: ...
@overload
def operation(*, since: str) -> Callable[[Operation], Operation]: ...
def operation(run: Operation | None = None, *, since: str = "") -> Any:
    """Register a function as the operation `<module>.<function>`, `list_` as `list`.

    `since` is the first release that has what it uses; `tests/wire/releases.py` reads it from
    the source, to know before any SDK is there which operations to ask for.
    """
    if run is None:
        return operation
    OPERATIONS[f"{run.__module__.rpartition('.')[2]}.{run.__name__.rstrip('_')}"] = run
    return run


def report(world: Any, wanted: Iterable[str]) -> None:
    """Run the wanted operations in order and print how each went, one JSON line each."""
    for name in wanted:
        begun = time.monotonic()
        try:
            OPERATIONS[name](world)
            problem = None
        except Exception:  # noqa: BLE001 - whatever an SDK raises is that operation's problem
            problem = traceback.format_exc()[-MAX_PROBLEM:]
        seconds = round(time.monotonic() - begun, 3)
        print(json.dumps({"operation": name, "problem": problem, "seconds": seconds}), flush=True)
