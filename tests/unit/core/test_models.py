"""Which engine serves which name (core/models.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchmill.core.models import AllBut, Catalogue
from batchmill.fleet import EngineState, EngineStatus

SMALL = EngineStatus("a", "vllm", EngineState.UP, models=("small",), seen_at=1.0)
BIG = EngineStatus("b", "vllm", EngineState.UP, models=("big",), seen_at=1.0)
BIG_DOWN = replace(BIG, state=EngineState.DOWN)
UNSEEN = EngineStatus("b", "vllm", EngineState.DOWN, reason="it is away")
WILD = {"alias": "small", "*": "small"}


def test_a_wildcard_stands_for_what_no_engine_serves() -> None:
    catalogue = Catalogue(WILD, (SMALL, BIG))
    assert [catalogue.served_name(each) for each in ("big", "alias", "gpt")] == [
        "big",
        "small",
        "small",
    ]


@pytest.mark.parametrize("asked", ["big", "gpt"])
def test_a_wildcard_waits_for_an_engine_that_nobody_ever_saw(asked: str) -> None:
    catalogue = Catalogue(WILD, (SMALL, UNSEEN))
    assert catalogue.served_name(asked) == asked
    assert catalogue.can_serve(asked)
    serving = catalogue.serving(catalogue.engines)
    assert serving == {"small", "alias"}


def test_an_engine_that_is_down_keeps_its_names_from_the_wildcard() -> None:
    catalogue = Catalogue(WILD, (SMALL, BIG_DOWN))
    assert catalogue.served_name("big") == "big"
    assert catalogue.serving(catalogue.engines) == AllBut(frozenset({"big"}))


def test_work_for_one_engine_is_none_that_only_another_serves() -> None:
    catalogue = Catalogue(WILD, (SMALL, BIG))
    assert catalogue.serving(catalogue.engines) is None
    serving = catalogue.serving([SMALL])
    assert serving is not None
    assert [name in serving for name in ("small", "alias", "gpt", "big")] == [True] * 3 + [False]
    assert catalogue.serving([BIG]) == {"big"}


def test_an_alias_of_a_served_name_counts_as_what_it_stands_for() -> None:
    catalogue = Catalogue({"small": "big"}, (SMALL, BIG_DOWN))
    assert catalogue.serving(catalogue.engines) == frozenset()


def test_a_name_is_refused_once_every_engine_is_known() -> None:
    assert not Catalogue({}, (SMALL, BIG_DOWN)).can_serve("gpt")
    assert Catalogue({}, (SMALL, UNSEEN)).can_serve("gpt")
    assert Catalogue({"*": "big"}, (SMALL, BIG_DOWN)).can_serve("gpt")
