"""The Compose file: it is one by the specification, asks for its secrets, starts in order."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from batchmill.config import load
from batchmill.quantities import parse_duration
from tools.deploy_tools import Tools

FOLDER = Path(__file__).parents[2] / "deploy"
TEXT = (FOLDER / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


@pytest.fixture(scope="module")
def specification(tools: Tools) -> Iterator[Any]:
    found = importlib.util.spec_from_file_location("compose_specification", tools.compose)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    yield module.ComposeSpecification
    del sys.modules[found.name]


def test_it_is_a_compose_file(specification: Any) -> None:
    # Top-level keys that start with x- are free by the specification; its models do not know them.
    specification.model_validate({key: COMPOSE[key] for key in COMPOSE if key[:2] != "x-"})


def test_a_slip_of_the_finger_would_be_seen(specification: Any) -> None:
    slipped = {"services": {"api": SERVICES["api"] | {"read_onyl": True}}}
    with pytest.raises(ValueError, match="read_onyl"):
        specification.model_validate(slipped)


def test_every_password_is_asked_for_and_none_has_a_default() -> None:
    variables = re.findall(r"\$\{(\w+)(:?[?-])?([^}]*)\}", TEXT)
    secret = [found for found in variables if re.search("PASSWORD|SECRET", found[0])]
    assert {name for name, _, _ in secret} >= {"POSTGRES_PASSWORD", "STORE_SECRET"}
    assert all(how == ":?" or (how == ":-" and not default) for _, how, default in secret)
    example = (FOLDER / "compose.env.example").read_text()
    for name in {name for name, _, _ in variables}:
        assert re.search(rf"(?m)^{name}=", example), name
    assert not re.search(r"(?m)^\w*(PASSWORD|SECRET|KEY)\w*=.", example)


def test_nothing_of_ours_starts_before_the_tables_are_there() -> None:
    ready = {"condition": "service_healthy"}
    assert SERVICES["migrate"]["command"] == ["db", "upgrade"]
    assert SERVICES["migrate"]["depends_on"] == {"postgres": ready}
    for name in ("api", "worker"):
        assert SERVICES[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "store": ready,
        }


def test_servers_say_whether_they_are_well() -> None:
    assert {name for name in SERVICES if "healthcheck" in SERVICES[name]} == {
        "postgres",
        "store",
        "api",
    }


@pytest.mark.parametrize("name", OURS)
def test_ours_may_write_nowhere_but_in_memory(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "volumes" not in service


def test_only_the_api_is_reached_and_only_from_this_machine() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"api": ["127.0.0.1:8470:8470"]}
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    for name in ("postgres", "store"):
        assert SERVICES[name]["networks"] == ["inside"]


def test_a_worker_is_given_its_drain_time_and_more() -> None:
    worker = SERVICES["worker"]
    drain = parse_duration(worker["environment"]["BATCHMILL_DRAIN_TIME"])
    assert parse_duration(worker["stop_grace_period"]) > drain
    assert worker["deploy"]["replicas"] == 2


def test_every_image_is_pinned_but_our_own() -> None:
    for name, service in SERVICES.items():
        if name not in OURS:
            assert re.search(r":\d[\w.-]+$", service["image"]), name


def test_its_settings_are_settings() -> None:
    for name in OURS:
        values = {
            key: re.sub(r"\$\{BATCHMILL_ENGINE:.*\}", "http://host:8000/v1", str(value))
            for key, value in OURS[name]["environment"].items()
        }
        values |= {"BATCHMILL_ENGINE_KEY": "", "BATCHMILL_WEBHOOK_SECRET": ""}
        assert load({}, values).engines


def test_an_engine_on_the_same_machine_is_found_under_the_name_of_the_example() -> None:
    assert "host.docker.internal" in (FOLDER / "compose.env.example").read_text()
    for name, service in OURS.items():
        assert service["extra_hosts"] == ["host.docker.internal:host-gateway"], name
