"""Every setting, read once: flag over environment (`BATCHMILL_*`) over TOML over default.

All problems are found together and raised as one `ConfigError`. How an engine is written down
stands in `enginespec.py`. Children of `serve` get the settings from it and never call `load`.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

from batchmill.client.address import VARIABLES
from batchmill.enginespec import EngineSetting, LimitSetting, checked_key
from batchmill.errors import ConfigError, Problem
from batchmill.fleet import Role
from batchmill.model import TenantId
from batchmill.quantities import Duration, SizeBytes
from batchmill.quotas import Quotas
from batchmill.tenantspec import TenantSetting
from batchmill.webhooks.guard import is_allowed
from batchmill.webhooks.target import target_of
from batchmill.webhookspec import WebhookSetting

PREFIX: Final = "BATCHMILL_"
DEFAULT_FILE: Final = Path("batchmill.toml")
LEAST_SECRET: Final = 24
MAX_SECRETS: Final = 2
_SECRETS: Final = ("key", "secret", "url")
_SET_BY_KUBERNETES = re.compile(r"BATCHMILL_.*(SERVICE_HOST|SERVICE_PORT.*|PORT_\d+_(TCP|UDP).*)")
"""What Kubernetes puts into every pod beside a service called `batchmill`."""

_BUCKET = re.compile(r"(s3|gs|az)://\w[\w.-]*(/(?!\.)[\w.-]+)*/?", re.ASCII)


class Settings(BaseModel):
    """The settings of one installation; without any of them a single machine works."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path = Field(Path("batchmill-data"), description="Directory for the ledger and the blobs")
    storage_url: str | None = Field(
        None, description="Bucket for the blobs: `s3://`, `gs://` or `az://`; `data` when not set"
    )
    database_url: SecretStr | None = Field(
        None, description="The ledger's database; SQLite in the data directory when not set"
    )
    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8470, ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    insecure: bool = Field(
        default=False, description="Listen beyond loopback although no API key was made"
    )
    role: Role = Field(Role.ALL, description="`all`, or `api` for an API process without a worker")
    workers: int = Field(
        1, ge=1, le=64, description="Worker processes of one `serve` or `batchmill worker`"
    )
    public_url: str | None = Field(
        None, description="What links to files start with; the request's own address when not set"
    )
    engines: tuple[EngineSetting, ...] = Field((), description="The engines, see below")
    models: dict[str, str] = Field(
        {},
        description="Aliases: the name in users' code = the name that is served; `*` matches all",
    )
    engine_key: SecretStr | None = Field(
        None, description="API key for every engine by URL that has none of its own"
    )
    beat: Duration = Field(
        timedelta(seconds=1), description="How often a worker says that it lives"
    )
    lease_time: Duration = Field(
        timedelta(seconds=15), description="How long a silent worker keeps its shards"
    )
    drain_time: Duration = Field(
        timedelta(seconds=10), description="How long a stop may take: calls in flight may land"
    )
    memory_budget: SizeBytes = Field(
        96_000_000, ge=1_000_000, description="Bodies and replies one worker holds at most"
    )
    low_disk: SizeBytes = Field(
        256_000_000, ge=0, description="With less room than this nothing new is taken in or sent"
    )
    max_job_lines: int = Field(1_000_000, ge=1, description="Lines of one job at most")
    max_inline_requests: int = Field(
        10_000, ge=1, le=100_000, description="Inline requests of one job at most; 100,000 or fewer"
    )
    max_file_size: SizeBytes = Field(512_000_000, ge=1, description="Size of one file at most")
    max_line_size: SizeBytes = Field(10_000_000, ge=1, description="Size of one line at most")
    max_pending_lines: int = Field(
        0, ge=0, description="Lines of one tenant's jobs that may be pending at once; 0: any number"
    )
    tenants: dict[str, TenantSetting] = Field({}, description="Limits of single tenants, see below")
    keep_uploads: Duration = Field(
        timedelta(days=30), description="How long uploads are kept; 0: for ever"
    )
    keep_results: Duration = Field(
        timedelta(days=30), description="How long results are kept; 0: for ever"
    )
    webhook_secret: SecretStr | None = Field(
        None, description="Root of the webhook secrets; `new,old` while it is changed"
    )
    webhook_allow_hosts: tuple[str, ...] = Field(
        (), description="Hosts (`host` or `host:port`) that webhooks may reach wherever they are"
    )
    webhooks: tuple[WebhookSetting, ...] = Field(
        (), description="Receivers of every job's event, see below"
    )

    @field_validator("database_url")
    @classmethod
    def _is_a_database(cls, url: SecretStr | None) -> SecretStr | None:
        given = url.get_secret_value() if url else ""
        if given and not given.startswith(("postgresql://", "postgres://", "sqlite:///")):
            raise ValueError(
                "should be postgresql://user:password@host:5432/name or sqlite:///path"
            )
        return url if given else None

    @field_validator("public_url")
    @classmethod
    def _is_an_origin(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https?://[^\s?#]+", url):
            raise ValueError('should be a URL such as "https://batch.example.com"')
        return url.rstrip("/") if url else None

    @field_validator("storage_url")
    @classmethod
    def _is_a_bucket(cls, url: str | None) -> str | None:
        if url is not None and not _BUCKET.fullmatch(url):
            raise ValueError(
                'should be "s3://bucket/prefix", "gs://bucket/prefix" or "az://container/prefix", '
                "without credentials: these come from the variables of the store's vendor"
            )
        return url

    @field_validator("engines")
    @classmethod
    def _names_differ(cls, engines: tuple[EngineSetting, ...]) -> tuple[EngineSetting, ...]:
        names = [engine.name for engine in engines]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"has two engines named {twice[0]!r}; give each a name of its own")
        return engines

    @field_validator("engine_key")
    @classmethod
    def _fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        return checked_key(key)

    @field_validator("webhook_secret")
    @classmethod
    def _cannot_be_guessed(cls, secret: SecretStr | None) -> SecretStr | None:
        roots = _listed(secret.get_secret_value()) if secret else ()
        if len(roots) > MAX_SECRETS or any(len(root) < LEAST_SECRET for root in roots):
            raise ValueError(
                f"should be one secret of at least {LEAST_SECRET} characters, or the new and the "
                "old one with a comma between"
            )
        return secret if roots else None

    @field_validator("webhook_allow_hosts", mode="before")
    @classmethod
    def _may_be_one_text(cls, hosts: object) -> object:
        return _listed(hosts) if isinstance(hosts, str) else hosts

    @field_validator("beat")
    @classmethod
    def _takes_time(cls, beat: timedelta) -> timedelta:
        if beat < timedelta(milliseconds=50):
            raise ValueError("should be at least 50ms")
        return beat

    @field_validator("lease_time")
    @classmethod
    def _outlasts_some_beats(cls, lease_time: timedelta, others: ValidationInfo) -> timedelta:
        if lease_time < 3 * others.data.get("beat", timedelta(0)):
            raise ValueError("should be at least three times the beat")
        return lease_time

    @field_validator("drain_time")
    @classmethod
    def _is_enough_to_end(cls, drain_time: timedelta) -> timedelta:
        if drain_time < timedelta(seconds=5):
            raise ValueError("should be at least 5s")
        return drain_time

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The root secrets, the new one first."""
        secret = self.webhook_secret
        return _listed(secret.get_secret_value()) if secret else ()

    @property
    def quotas(self) -> Quotas:
        """How much of each tenant's work may be pending."""
        own = {
            TenantId(name): tenant.max_pending_lines
            for name, tenant in self.tenants.items()
            if tenant.max_pending_lines is not None
        }
        return Quotas(self.max_pending_lines, own)

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the API."""
        try:
            return ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"


def state_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Where commands note what they did, between one and the next; the user's own."""
    environ = os.environ if environ is None else environ
    state = environ.get("XDG_STATE_HOME", "")
    home = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return home / "batchmill"


_NESTED: Final[Mapping[str, type[BaseModel]]] = {
    "engines": EngineSetting,
    "tenants": TenantSetting,
    "webhooks": WebhookSetting,
}


def load(flags: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process. `flags` holds field names; None means not given.

    `flags["config"]`, else `BATCHMILL_CONFIG`, else `./batchmill.toml` where it exists, names the
    TOML file. Raises `ConfigError` with every problem found.
    """
    environ = os.environ if environ is None else environ
    problems: list[Problem] = []
    file = file_to_read(flags, environ)
    layers: tuple[tuple[dict[str, Any], Callable[[str], str]], ...] = (
        (_from_file(file, problems) if file else {}, lambda _: str(file)),
        (_from_environment(environ, problems), _variable),
        ({name: flags[name] for name in flags if flags[name] not in (None, ())}, _flag),
    )
    given: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for values, source in layers:
        given |= values
        sources |= {field: source(field) for field in values}
    given.pop("config", None)
    try:
        settings = Settings.model_validate(given)
    except ValidationError as e:
        problems += [_problem(error, sources) for error in e.errors(include_url=False)]
        raise ConfigError(problems) from None
    problems += [Problem("webhooks", each, sources["webhooks"]) for each in _unfit(settings)]
    if problems:
        raise ConfigError(problems)
    return settings


def _unfit(settings: Settings) -> list[str]:
    """Why the webhooks cannot be sent as the other settings are."""
    targets = [target_of(each.url) for each in settings.webhooks]
    found = [
        f"{each.authority} should be called by https, or stand in webhook_allow_hosts"
        for each in targets
        if not (each.is_tls or is_allowed(each, settings.webhook_allow_hosts))
    ]
    if targets and not settings.webhook_secrets:
        found.append("need webhook_secret, to be signed with")
    return found


def file_to_read(flags: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Path | None:
    """The TOML file that `load` reads, if there is one."""
    environ = os.environ if environ is None else environ
    named = flags.get("config") or environ.get(f"{PREFIX}CONFIG")
    if named:
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _from_file(file: Path, problems: list[Problem]) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        problems.append(Problem("config", "there is no such file", str(file)))
    except OSError as e:
        problems.append(Problem("config", f"cannot be read: {e.strerror}", str(file)))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        problems.append(Problem("config", f"is not valid TOML: {e}", str(file)))
    return {}


def _from_environment(environ: Mapping[str, str], problems: list[Problem]) -> dict[str, Any]:
    """The settings among the variables; an unknown `BATCHMILL_` one is a problem."""
    only_in_file = {"models", "tenants", "webhooks"}
    names = [field for field in Settings.model_fields if field not in only_in_file]
    fields = {_variable(field): field for field in names}
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable == f"{PREFIX}CONFIG" or not text:
            continue
        if _SET_BY_KUBERNETES.fullmatch(variable) or text.startswith(("tcp://", "udp://")):
            continue
        if variable in VARIABLES:
            continue
        if variable not in fields:
            hint = _nearest(variable, [*fields, f"{PREFIX}CONFIG"])
            problems.append(Problem(variable, f"is no setting{hint}", "environment"))
            continue
        field = fields[variable]
        values[field] = text.split() if field == "engines" else text
    return values


def _listed(text: str) -> tuple[str, ...]:
    """What stands between commas or spaces."""
    return tuple(text.replace(",", " ").split())


def _variable(field: str) -> str:
    return PREFIX + ("ENGINE" if field == "engines" else field.upper())


def _flag(field: str) -> str:
    return "--engine" if field == "engines" else f"--{field.replace('_', '-')}"


def _problem(error: ErrorDetails, sources: Mapping[str, str]) -> Problem:
    """One of pydantic's errors in our words; the value is shown unless it may be a secret."""
    loc = error["loc"]
    name = ".".join(str(part + 1) if isinstance(part, int) else part for part in loc)
    source = sources.get(str(loc[0]), "") if loc else ""
    if error["type"] == "extra_forbidden":
        known = _table_of(loc).model_fields
        return Problem(name, f"is no setting{_nearest(str(loc[-1]), list(known))}", source)
    says = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    shown = isinstance(error["input"], str | int | float) and not _may_be_secret(name, error)
    return Problem(name, f"{error['input']!r} {says}" if shown else says, source)


def _table_of(loc: tuple[int | str, ...]) -> type[BaseModel]:
    """Which table of the file a key stands in."""
    if len(loc) == 1:
        return Settings
    if loc[0] == "engines" and "limits" in loc[1:-1]:
        return LimitSetting
    return _NESTED.get(str(loc[0]), EngineSetting)


def _may_be_secret(name: str, error: ErrorDetails) -> bool:
    return any(word in name for word in _SECRETS) or not {"@", "?"}.isdisjoint(str(error["input"]))


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
