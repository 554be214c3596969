"""A person at an engine on which a batch runs: how fast their answers are, and what is left to the
batch."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from bench.contest import Contestant, answered, begin, contest
from bench.inputs import ENDPOINT
from bench.table import Place, Row, Section, at_least, at_most
from tests.serving import Sim

ALONE_SECONDS: Final = 20.0
SECONDS: Final = 60.0
LATENCY_MS: Final = 300
SLOTS: Final = 48
STEADY: Final = 4
BURST: Final = 24
BURST_EVERY: Final = 15.0
BURST_SECONDS: Final = 4.0
_NAMES: Final = ("polite", "full")
_READING: Final = (
    f"An engine that takes {LATENCY_MS} ms and works on {SLOTS} calls at once. {STEADY} people ask "
    f"without a pause, alone for {ALONE_SECONDS:.0f} s, then beside a batch for {SECONDS:.0f} s; "
    f"every {BURST_EVERY:.0f} s {BURST} more ask for {BURST_SECONDS:.0f} s. *Left* is what the "
    "engine could answer but for theirs; *full* is the same beside an engine without politeness."
)


@dataclass(slots=True)
class People:
    """Askers at one engine; `steady` and `burst` are how long their answers took, and in a burst
    how long after its beginning they were asked for."""

    sim: Sim
    steady: list[float] = field(default_factory=list)
    burst: list[tuple[float, float]] = field(default_factory=list)


def measure(place: Place) -> Section:
    """A polite batch and one that is not, each beside people of its own."""
    contestants = [Contestant(name, f'politeness = "{name}"') for name in _NAMES]
    spec = f"latency={LATENCY_MS}ms,batch={SLOTS}"
    with contest(place.home, "polite", spec, contestants) as (server, sims):
        alone = p99([each for people in _beside(sims, ALONE_SECONDS) for each in people.steady])
        begin(server, place.home, sims)
        time.sleep(5.0)
        with asking(sims) as crowd:
            counts = answered(sims, SECONDS)
    rows: list[Row] = []
    figures: dict[str, object] = {"alone": alone}
    for people, name in zip(crowd, _NAMES, strict=True):
        theirs = len(people.steady) + len(people.burst)
        left = SECONDS * SLOTS * 1000 / LATENCY_MS - theirs
        ours = counts[name] - theirs
        late = [seconds for after, seconds in people.burst if after >= 2.0]
        figures[name] = {
            "steady_p99": p99(people.steady),
            "burst_p99": p99([seconds for _, seconds in people.burst]),
            "late_p99": p99(late),
            "ours": ours,
            "left": left,
        }
        if name == "polite":
            rows += [
                at_most("people, p99 over alone", p99(people.steady) / alone, 2, " x", 2),
                at_most("of a burst, from 2 s on, p99 over alone", p99(late) / alone, 2, " x", 2),
                at_least("the batch's part of what is left", ours / left * 100, 50, " %", 0),
            ]
        else:
            shown = f"{p99(people.steady) / alone:.2f} x, {ours / left * 100:.0f} % of what is left"
            rows.append(Row("full: people's p99 over alone, and the batch", shown))
    return Section("Politeness", _READING, rows, figures)


def _beside(sims: dict[str, Sim], seconds: float) -> list[People]:
    with asking(sims, bursts=False) as crowd:
        time.sleep(seconds)
    return crowd


@contextmanager
def asking(sims: dict[str, Sim], *, bursts: bool = True) -> Iterator[list[People]]:
    """People at each engine for as long as the block lasts."""
    ended = threading.Event()
    crowd = [People(sim) for sim in sims.values()]
    threads = []
    for people, model in zip(crowd, sims, strict=True):
        threads += [
            threading.Thread(target=_ask_on, args=(people, model, ended)) for _ in range(STEADY)
        ]
        if bursts:
            threads += [
                threading.Thread(target=_ask_in_bursts, args=(people, model, ended))
                for _ in range(BURST)
            ]
    for thread in threads:
        thread.start()
    try:
        yield crowd
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _ask_on(people: People, model: str, ended: threading.Event) -> None:
    while not ended.is_set():
        people.steady.append(_ask(people.sim, model))


def _ask_in_bursts(people: People, model: str, ended: threading.Event) -> None:
    while not ended.wait(BURST_EVERY - BURST_SECONDS):
        began = time.monotonic()
        while (after := time.monotonic() - began) < BURST_SECONDS and not ended.is_set():
            people.burst.append((after, _ask(people.sim, model)))


def _ask(sim: Sim, model: str) -> float:
    """Ask once; how long the answer took."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    began = time.monotonic()
    answer = sim.http.call("POST", ENDPOINT, json.dumps(body).encode())
    if answer.status != 200:
        raise OSError(f"a person got {answer.status}")
    return time.monotonic() - began


def p99(seconds: list[float]) -> float:
    """The time within which 99 of 100 were answered."""
    return sorted(seconds)[int(0.99 * len(seconds))] if seconds else 0.0
