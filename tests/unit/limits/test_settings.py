"""Limits as they are written down (enginespec.py)."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from batchmill.enginespec import EngineSetting
from batchmill.grants import Limit

URL = "http://gpu:8000/v1"


def limits_of(**table: Any) -> tuple[Limit, ...]:
    return EngineSetting.model_validate({"url": URL} | table).at(URL, None).limits


@pytest.mark.parametrize("table", [{}, {"concurrency": "auto"}], ids=["nothing", "auto"])
def test_an_engine_without_figures_has_no_limit_and_a_window_that_is_found(
    table: dict[str, Any],
) -> None:
    assert limits_of(**table) == ()
    spec = EngineSetting.model_validate({"url": URL} | table).at(URL, None)
    assert (spec.adaptive, spec.polite, spec.concurrency) == (True, False, 1024)


def test_a_concurrency_that_is_written_down_is_a_fixed_window() -> None:
    spec = EngineSetting.model_validate({"url": URL, "concurrency": 50}).at(URL, None)
    assert (spec.adaptive, spec.concurrency) == (False, 50)


def test_a_polite_engine_never_gets_more_than_is_written_down_but_may_get_less() -> None:
    table = {"url": URL, "concurrency": 50, "politeness": "polite"}
    spec = EngineSetting.model_validate(table).at(URL, None)
    assert (spec.adaptive, spec.polite, spec.concurrency) == (True, True, 50)
    assert limits_of(**table) == (Limit("", concurrency=50),)


@pytest.mark.parametrize("value", [0, -1, 100_001, "some", 1.5, True, None])
def test_a_concurrency_that_is_neither_a_number_nor_auto_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match='should be "auto" or a whole number'):
        limits_of(concurrency=value)


def test_a_concurrency_that_is_written_down_is_the_limit_of_all_workers() -> None:
    assert limits_of(concurrency=50) == (Limit("", concurrency=50),)


def test_each_machine_has_a_local_engine_of_its_own() -> None:
    assert limits_of(url="local", concurrency=4) == ()


def test_limits_of_models_stand_beside_those_of_the_engine() -> None:
    tables = [{"model": "big", "tokens_per_minute": 9}, {"model": "free"}]
    assert limits_of(requests_per_minute=600, limits=tables) == (
        Limit("", requests_per_minute=600),
        Limit("big", tokens_per_minute=9),
    )


def test_a_model_has_one_table() -> None:
    with pytest.raises(ValidationError, match="two tables for the model 'big'"):
        limits_of(limits=[{"model": "big"}, {"model": "big"}])
