"""How an engine is written down: a URL, `local[:model.gguf]`, `sim[:option=value,...]`, or a table.

What an engine does stands in `engines/`; this only says which one is meant.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from batchmill.core.window import CEILING
from batchmill.engines.local import DEMO, CannotServe, plan_for
from batchmill.engines.sim.settings import parse_spec
from batchmill.fleet import EngineSpec
from batchmill.grants import Limit
from batchmill.quantities import Duration
from batchmill.schedules import ALWAYS, Schedule, check_time_zone, parse_spans

MOST_CALLS = 100_000
MOST_A_MINUTE = 1_000_000_000
_EMBEDDED = re.compile(r"(local|sim)(?::(.*))?", re.DOTALL)


class LimitSetting(BaseModel):
    """What one model of an engine is asked at most: an `[[engines.limits]]` table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1, description="The name that the engine serves it under")
    concurrency: int = Field(
        0, ge=0, le=MOST_CALLS, description="Calls in flight at most; 0: no limit"
    )
    requests_per_minute: int = Field(
        0, ge=0, le=MOST_A_MINUTE, description="Calls a minute at most; 0: no limit"
    )
    tokens_per_minute: int = Field(
        0, ge=0, le=MOST_A_MINUTE, description="Tokens a minute at most; 0: no limit"
    )


class EngineSetting(BaseModel):
    """One engine as configured: a `[[engines]]` table, or an `--engine SPEC` (which is its url)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        "", max_length=64, description="What logs and metrics call it; made from the URL if not set"
    )
    url: str = Field(description="`http://host:8000/v1`, `local[:model.gguf]` or `sim[:options]`")
    kind: Literal["auto", "llamacpp", "mistral", "openai", "sglang", "vllm"] = Field(
        "auto", description="Whose server it is"
    )
    key: SecretStr | None = Field(None, description="API key; `engine_key` when not set")
    concurrency: int | Literal["auto"] = Field(
        "auto", description="Calls in flight at most; `auto`: as many as do the engine good"
    )
    politeness: Literal["full", "polite"] = Field(
        "full", description="Whether to leave room for calls of others: `full` or `polite`"
    )
    requests_per_minute: int = Field(
        0, ge=0, le=MOST_A_MINUTE, description="Calls a minute at most; 0: no limit"
    )
    tokens_per_minute: int = Field(
        0,
        ge=0,
        le=MOST_A_MINUTE,
        description="Tokens a minute at most, input and output; 0: no limit",
    )
    limits: tuple[LimitSetting, ...] = Field((), description="Limits of single models, see below")
    embeddings_per_call: int = Field(
        1, ge=1, le=2048, description="Lines of `/v1/embeddings` in one call at most"
    )
    timeout: Duration = Field(timedelta(minutes=10), description="How long one call may take")
    replicas: Literal["dns"] | None = Field(
        None, description="`dns`: every address of the URL's host is an engine of its own"
    )
    schedule: str | None = Field(
        None, description='When it may be used, such as "22:00-06:00"; always when not set'
    )
    time_zone: str = Field("UTC", description="Whose clock the schedule goes by")

    @model_validator(mode="before")
    @classmethod
    def _a_spec_is_its_url(cls, value: Any) -> Any:
        table = {"url": value} if isinstance(value, str) else value
        if isinstance(table, dict) and not table.get("name") and isinstance(table.get("url"), str):
            return table | {"name": _name_for(table["url"])}
        return table

    @field_validator("url")
    @classmethod
    def _is_an_engine(cls, url: str) -> str:
        embedded = _EMBEDDED.fullmatch(url)
        if embedded is None:
            return _http_url(url)
        kind, argument = embedded.groups()
        if kind == "sim":
            parse_spec(argument or "")
        else:
            _check_model(argument or DEMO)
        return url

    @field_validator("key")
    @classmethod
    def _fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        return checked_key(key)

    @field_validator("concurrency", mode="plain")
    @classmethod
    def _is_a_number_or_auto(cls, concurrency: object) -> int | Literal["auto"]:
        if concurrency == "auto":
            return "auto"
        is_number = isinstance(concurrency, int | str) and not isinstance(concurrency, bool)
        if is_number and str(concurrency).isdecimal() and 1 <= int(str(concurrency)) <= MOST_CALLS:
            return int(str(concurrency))
        raise ValueError(f'should be "auto" or a whole number from 1 to {MOST_CALLS:,}')

    @field_validator("limits")
    @classmethod
    def _models_differ(cls, limits: tuple[LimitSetting, ...]) -> tuple[LimitSetting, ...]:
        models = [limit.model for limit in limits]
        twice = sorted({model for model in models if models.count(model) > 1})
        if twice:
            raise ValueError(f"has two tables for the model {twice[0]!r}; write one")
        return limits

    @field_validator("timeout")
    @classmethod
    def _takes_time(cls, timeout: timedelta) -> timedelta:
        if timeout < timedelta(milliseconds=1):
            raise ValueError("should be longer than nothing")
        return timeout

    @field_validator("schedule")
    @classmethod
    def _is_a_schedule(cls, schedule: str | None) -> str | None:
        if schedule is not None:
            parse_spans(schedule)
        return schedule

    @field_validator("time_zone")
    @classmethod
    def _is_a_time_zone(cls, time_zone: str) -> str:
        return check_time_zone(time_zone)

    @model_validator(mode="after")
    def _has_a_host_to_look_up(self) -> EngineSetting:
        if self.replicas and self.embedded:
            raise ValueError("replicas should only be set for an engine with a URL")
        return self

    @property
    def hours(self) -> Schedule:
        """When it may be used."""
        return Schedule(parse_spans(self.schedule), self.time_zone) if self.schedule else ALWAYS

    @property
    def embedded(self) -> Literal["local", "sim"] | None:
        """Which engine `serve` itself has to start for this, if any."""
        match = _EMBEDDED.fullmatch(self.url)
        return None if match is None else "local" if match[1] == "local" else "sim"

    @property
    def argument(self) -> str:
        """What stands after `local:` or `sim:`."""
        return self.url.partition(":")[2] if self.embedded else ""

    @property
    def fixed_concurrency(self) -> int:
        """The number that is written down; 0: none."""
        return self.concurrency if isinstance(self.concurrency, int) else 0

    def at(self, url: str, default_key: SecretStr | None) -> EngineSpec:
        """The engine as workers know it; `url` is where an embedded one listens."""
        key = None if self.embedded else self.key or default_key
        is_polite = self.politeness == "polite"
        return EngineSpec(
            name=self.name,
            url=url,
            kind="llamacpp" if self.embedded == "local" else self.kind,
            key=key.get_secret_value() if key else None,
            concurrency=self.fixed_concurrency or CEILING,
            adaptive=is_polite or not self.fixed_concurrency,
            polite=is_polite,
            timeout_seconds=self.timeout.total_seconds(),
            schedule=self.hours,
            simulated=self.embedded == "sim",
            limits=self._limits(),
            embeddings_per_call=self.embeddings_per_call,
        )

    def _limits(self) -> tuple[Limit, ...]:
        """What all workers keep to together. Each machine has a `local` engine of its own."""
        calls = 0 if self.embedded == "local" else self.fixed_concurrency
        limits = [Limit("", calls, self.requests_per_minute, self.tokens_per_minute)]
        limits += [Limit(**limit.model_dump()) for limit in self.limits]
        return tuple(limit for limit in limits if limit != Limit(limit.model))


def checked_key(key: SecretStr | None) -> SecretStr | None:
    """The key. Raises `ValueError` where it cannot stand in a header."""
    text = key.get_secret_value() if key else ""
    if not (text.isascii() and text.isprintable()):
        raise ValueError("should have only printable ASCII characters")
    return key


def _name_for(url: str) -> str:
    """`gpu1:8000` of a URL, `local` or `sim` of an embedded engine."""
    embedded = _EMBEDDED.fullmatch(url)
    if embedded:
        return embedded[1]
    try:
        return urlsplit(url).netloc.rpartition("@")[2] or "engine"
    except ValueError:
        return "engine"


def _check_model(model: str) -> None:
    try:
        plan_for(model, port=0, parallel=1, context=None, threads=None, cpus=1)
    except CannotServe as e:
        raise ValueError(str(e)) from e


def _http_url(url: str) -> str:
    """The URL without a last slash. Raises `ValueError` where it cannot be an engine's base."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(character.isspace() for character in url):
        raise ValueError('should be "http://host:port/v1", "local", "local:model.gguf" or "sim"')
    if parts.username or parts.password:
        raise ValueError("should not carry a password; put the key in BATCHMILL_ENGINE_KEY or key")
    if parts.query or parts.fragment:
        raise ValueError("should end with its path, without ? or #")
    return url.rstrip("/")
