"""The documentation keeps up with the settings, the flags and the commands."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo
from typer.main import get_command

from batchmill.cli.commands import application
from batchmill.config import Settings
from batchmill.enginespec import EngineSetting, LimitSetting
from batchmill.quantities import parse_duration, parse_size
from batchmill.tenantspec import TenantSetting
from batchmill.webhookspec import WebhookSetting

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "settings.md").read_text()
README = (ROOT / "README.md").read_text()
TABLES = re.findall(r"\| (?:setting|key) \|.*?\n((?:\|.*\n)+)", PAGE)


def rows(table: str) -> dict[str, str]:
    """The documented default of each name of a table."""
    lines = [line.split("|") for line in table.splitlines()[1:]]
    return {line[1].strip(" `"): line[2].strip() for line in lines}


def written_default(text: str, field: FieldInfo) -> Any:
    """What the documentation's text for a default means."""
    text = text.strip("`")
    match field.default:
        case timedelta():
            return parse_duration(text)
        case bool():
            return text == "true"
        case int():
            return parse_size(text)
        case Path():
            return Path(text)
        case Enum():
            return type(field.default)(text)
        case _:
            return text


@pytest.mark.parametrize(
    ("model", "table"),
    [
        (Settings, TABLES[0]),
        (EngineSetting, TABLES[1]),
        (LimitSetting, TABLES[2]),
        (TenantSetting, TABLES[3]),
        (WebhookSetting, TABLES[4]),
    ],
    ids=["all", "engines", "limits", "tenants", "webhooks"],
)
def test_every_setting_is_documented_with_its_default(model: Any, table: str) -> None:
    documented = rows(table)
    assert list(documented) == list(model.model_fields)
    for name, field in model.model_fields.items():
        if isinstance(field.default, tuple | dict | None) or field.default == "":
            continue
        if field.is_required():
            continue
        assert written_default(documented[name], field) == field.default, name


def commands_of(command: Any) -> dict[str, Any]:
    return getattr(command, "commands", {})


def test_every_flag_of_serve_is_documented() -> None:
    serve = commands_of(get_command(application()))["serve"]
    flags = {flag for option in serve.params for flag in option.opts}
    assert flags
    assert all(f"`{flag}`" in PAGE for flag in flags)


def test_every_command_and_option_says_what_it_does() -> None:
    waiting = [get_command(application())]
    while waiting:
        command = waiting.pop()
        assert command.help, command.name
        assert all(getattr(option, "help", None) for option in command.params), command.name
        waiting += commands_of(command).values()


def test_links_of_the_documentation_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
