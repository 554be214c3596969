"""What can be set about the simulator, in its spec or while it runs. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from batchmill.engines.sim.faults import RATED

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|)")
_SIZE_UNITS = {"": 1, "kb": 1_000, "mb": 1_000_000}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([a-z]*)")
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}
_LIST_SEPARATOR = "|"


class BadSetting(ValueError):
    """A setting that does not exist, or a value that it cannot have; the message says which."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the simulated engine behaves. Durations are in seconds."""

    latency: float = 0.0
    """How long an answer takes, before its tokens."""
    jitter: float = 0.0
    """Sigma of the lognormal factor on every answer's time."""
    tokens_per_second: float = 0.0
    """How fast one answer is written; 0: at once."""
    prefill_per_second: float = 0.0
    """How fast prompt tokens that are not cached are read; 0: at once."""
    batch: int = 0
    """How many calls are served at once, the rest wait in line; 0: all."""
    queue: int = -1
    """How many may wait before it answers 503; -1: any number."""
    max_in_flight: int = 0
    """How many calls may be there before it answers 429; 0: any number."""
    prefix_blocks: int = 0
    """How many blocks of 16 prompt tokens its prefix cache keeps; 0: it has none."""
    models: tuple[str, ...] = ("sim",)
    any_model: bool = False
    """Answer for every model name, as llama.cpp does."""
    key: str = ""
    """The key that it wants; empty: none."""
    marked: bool = True
    """Say `"simulated": true` in every answer."""
    status: int = 0
    """Answer every call with this status and a web page, as a proxy without its engine does."""
    retry_after: float = 0.0
    """Seconds in the Retry-After of every 429 and 503; 0: no such header."""
    answer_bytes: int = 0
    """Lengthen the text of each answer to this."""
    non_ascii: bool = False
    """Put characters of all kinds into the text of each answer."""
    window: float = 60.0
    """Over how long it counts the most calls that came; a time below 60 s makes tests short."""
    seed: int = 0
    """Chooses which calls the rates and the jitter strike."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """How often each fault strikes, from 0 to 1; written `rate_500=0.01`."""


def parse_spec(spec: str) -> Settings:
    """The settings in `latency=50ms,batch=64,rate_429=0.1`. Raises `BadSetting`."""
    wishes: dict[str, object] = {}
    for piece in filter(None, (part.strip() for part in spec.split(","))):
        name, equals, value = piece.partition("=")
        if not equals:
            raise BadSetting(f'"{piece}" should be written name=value.')
        wishes[name.strip()] = value.strip()
    return changed(Settings(), wishes)


def changed(settings: Settings, wishes: Mapping[str, object]) -> Settings:
    """The settings with some of them changed; all or none. Raises `BadSetting`."""
    known = {item.name: getattr(settings, item.name) for item in fields(Settings)}
    changes: dict[str, object] = {}
    rates = dict(settings.rates)
    for name, wish in wishes.items():
        if name.startswith("rate_") and name[5:] in RATED:
            rates[name[5:]] = _share(name, wish)
        elif name in known and name != "rates":
            changes[name] = _value(name, wish, known[name])
        else:
            choices = ", ".join([*(known.keys() - {"rates"}), *(f"rate_{kind}" for kind in RATED)])
            raise BadSetting(f'There is no setting "{name}"; there are {choices}.')
    return replace(settings, rates=rates, **changes)  # type: ignore[arg-type]


def _value(name: str, wish: object, present: object) -> object:
    match present:
        case bool():
            return _flag(name, wish)
        case tuple():
            names = wish.split(_LIST_SEPARATOR) if isinstance(wish, str) else wish
            if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
                raise BadSetting(f'"{name}" should be names, separated by "{_LIST_SEPARATOR}".')
            return tuple(filter(None, names))
        case int():
            return _size(name, wish)
        case float():
            return _duration(name, wish)
        case _:
            return "" if wish is None else str(wish)


def _flag(name: str, wish: object) -> bool:
    text = str(wish).lower()
    if text not in _TRUE | _FALSE:
        raise BadSetting(f'"{name}" should be true or false.')
    return text in _TRUE


def _size(name: str, wish: object) -> int:
    match = _SIZE.fullmatch(str(wish).lower())
    if match is not None and match[2] in _SIZE_UNITS:
        return int(float(match[1]) * _SIZE_UNITS[match[2]])
    if str(wish) == "-1":
        return -1
    raise BadSetting(f'"{name}" should be a number such as 64 or 2mb.')


def _duration(name: str, wish: object) -> float:
    match = _DURATION.fullmatch(str(wish).lower())
    if match is None:
        raise BadSetting(f'"{name}" should be a number, a time among them like 50ms or 2s.')
    return float(match[1]) * _SECONDS[match[2]]


def _share(name: str, wish: object) -> float:
    try:
        share = float(str(wish))
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise BadSetting(f'"{name}" should be a number from 0 to 1.')
    return share
