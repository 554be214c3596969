"""The settings of webhooks, and the command that shows a tenant's secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from batchmill.cli.commands import application
from batchmill.config import load
from batchmill.errors import ConfigError
from batchmill.model import Ending, TenantId
from batchmill.webhooks.signing import tenant_secret

NEW, OLD = "new-root-secret-of-this-server", "old-root-secret-of-this-server"
SECRET, ALLOW = "BATCHMILL_WEBHOOK_SECRET", "BATCHMILL_WEBHOOK_ALLOW_HOSTS"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def endpoint(folder: Path, *lines: str) -> dict[str, Any]:
    """Flags that name a file with one receiver."""
    file = folder / "settings.toml"
    file.write_text("\n".join(["[[webhooks]]", *lines]))
    return {"config": file}


def problem_of(flags: dict[str, Any], environ: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load(flags, environ)
    (problem,) = caught.value.problems
    return f"{problem.field}: {problem.message}"


@pytest.mark.parametrize(
    ("text", "roots"),
    [("", ()), (NEW, (NEW,)), (f"{NEW},{OLD}", (NEW, OLD)), (f" {NEW} , {OLD} ", (NEW, OLD))],
)
def test_one_or_two_root_secrets_are_taken_the_new_one_first(
    text: str, roots: tuple[str, ...]
) -> None:
    assert load({}, {SECRET: text}).webhook_secrets == roots


@pytest.mark.parametrize("text", ["short", f"{NEW},short", f"{NEW},{OLD},{NEW}"])
def test_a_bad_root_secret_is_a_problem_that_does_not_show_it(text: str) -> None:
    told = problem_of({}, {SECRET: text})
    assert told.startswith("webhook_secret: ")
    assert text not in told


def test_allowed_hosts_stand_in_the_environment_with_commas() -> None:
    hosts = load({}, {ALLOW: "hooks, other:81 ,[::1]"}).webhook_allow_hosts
    assert hosts == ("hooks", "other:81", "[::1]")


def test_a_receiver_hears_of_all_tenants_and_endings_unless_it_says_otherwise(
    tmp_path: Path,
) -> None:
    url = 'url = "https://example.com/hook"'
    (every,) = load(endpoint(tmp_path, url), {SECRET: NEW}).webhooks
    assert every.as_noun().tenant is None
    assert every.as_noun().endings == frozenset(Ending)
    lines = (url, 'tenant = "a"', 'events = ["completed", "batch.failed"]')
    (some,) = load(endpoint(tmp_path, *lines), {SECRET: NEW}).webhooks
    assert some.as_noun().tenant == "a"
    assert some.as_noun().endings == {Ending.COMPLETED, Ending.FAILED}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (['url = "https://user@example.com/"'], "cannot be called"),
        (['url = "https://127.1/"'], "cannot be called"),
        (['url = "https://example.com/"', 'events = ["done"]'], "webhooks.1.events.1"),
        (['url = "https://example.com/"', 'tennant = "a"'], "did you mean tenant"),
    ],
)
def test_a_receiver_that_cannot_be_is_a_problem(
    tmp_path: Path, lines: list[str], says: str
) -> None:
    assert says in problem_of(endpoint(tmp_path, *lines), {SECRET: NEW})


def test_a_receiver_by_plain_http_must_be_allowed(tmp_path: Path) -> None:
    flags = endpoint(tmp_path, 'url = "http://hooks:81/?token=abc"')
    told = problem_of(flags, {SECRET: NEW, ALLOW: "hooks:82"})
    assert "https" in told
    assert "token" not in told
    assert load(flags, {SECRET: NEW, ALLOW: "hooks:81"}).webhooks


def test_a_receiver_without_a_root_secret_is_a_problem(tmp_path: Path) -> None:
    flags = endpoint(tmp_path, 'url = "https://example.com/hook"')
    assert "need webhook_secret" in problem_of(flags, {})


def test_the_command_shows_the_secret_of_the_newest_root() -> None:
    shown = CliRunner().invoke(
        application(), ["keys", "webhook-secret", "--tenant", "a"], env={SECRET: f"{NEW},{OLD}"}
    )
    assert shown.exit_code == 0
    assert shown.output.strip() == tenant_secret(NEW, TenantId("a"))


@pytest.mark.parametrize(
    ("environ", "tenant", "field"),
    [({SECRET: ""}, "a", "webhook_secret"), ({SECRET: NEW}, "../a", "tenant")],
)
def test_the_command_says_what_is_missing(environ: dict[str, str], tenant: str, field: str) -> None:
    arguments = ["keys", "webhook-secret", "--tenant", tenant]
    failed = CliRunner().invoke(application(), arguments, env=environ)
    assert isinstance(failed.exception, ConfigError)
    assert failed.exception.problems[0].field == field
