"""Many lines of `/v1/embeddings` in one call: which lines may go together, the body that they make,
and the answer taken apart again. Pure; the calls are made in `bundling.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import msgspec
from msgspec import Raw, Struct

from batchmill.calls import Answered
from batchmill.core.lines import open_line, with_model
from batchmill.core.work import OpenLine
from batchmill.jsontext import ascii_line
from batchmill.model import Fate, Outcome
from batchmill.usage import Usage

EMBEDDINGS = "/v1/embeddings"
BUNDLE_BYTES = 256 * 1024
"""So much input goes into one call, unless a single line has more."""
MAX_WAITS = 3
"""So often a line may be told to wait as one of many; from then on it goes by itself."""
_FRAME_TOKENS = 2
"""What engines put around an input, about, in bytes of text like the rest of its weight."""

_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_LIST = msgspec.json.Decoder(list[Raw])
_NUMBER = msgspec.json.Decoder(int)
_ABSENT = Raw(b"null")


class Piece(Struct, gc=False):
    """What a line brings into a call with others: its one input as JSON text, and in `form` all
    else of its body, which the others must share."""

    line: OpenLine
    custom_id: bytes
    text: bytes
    form: bytes

    @property
    def weight(self) -> int:
        """Its part of what the call costs, beside the others'."""
        return len(self.text) + _FRAME_TOKENS


def piece_of(line: OpenLine) -> Piece | None:
    """What the line brings; None where it has to go by itself: it has no single input, was part of
    a call that came to nothing, or may have killed an engine or its worker."""
    if line.shard.serial or not may_share(line):
        return None
    try:
        custom_id, body = open_line(line.raw)
        members = _MEMBERS.decode(with_model(body, line.model) if line.model else body)
        text = _one_text(bytes(members.pop("input", _ABSENT)))
    except (ValueError, RecursionError):
        return None
    if text is None:
        return None
    return Piece(line, custom_id, text, msgspec.json.encode(members))


def may_share(line: OpenLine) -> bool:
    """Whether nothing that happened to the line speaks against a call with others."""
    history = line.history
    if history is None:
        return True
    return not history.by_itself and history.waits <= MAX_WAITS and history.strikes == 0


def body_of(pieces: Sequence[Piece]) -> bytes:
    """The body that asks for all of them, in this order."""
    texts, form = b",".join([piece.text for piece in pieces]), pieces[0].form
    rest = b"}" if form == b"{}" else b"," + form[1:]
    return b'{"input":[%b]%b' % (texts, rest)


def taken_apart(reply: Answered, pieces: Sequence[Piece]) -> list[Outcome] | None:
    """Each one's outcome, as if it had been asked for by itself; None unless the answer has each
    index once.

    What the call used is divided by the lengths of the inputs, so that the parts add up to it.
    """
    weights = [piece.weight for piece in pieces]
    try:
        members = _MEMBERS.decode(reply.body)
        entries = _by_index(_LIST.decode(members["data"]), len(pieces))
        used = _divided(msgspec.json.decode(members.get("usage", _ABSENT)), weights)
    except (ValueError, KeyError, RecursionError):
        return None
    usages = _usages(reply.usage, weights)
    outcomes = []
    for entry, its, usage in zip(entries, used, usages, strict=True):
        members["data"] = Raw(b"[%b]" % entry)
        if "usage" in members:
            members["usage"] = Raw(msgspec.json.encode(its))
        body = msgspec.json.encode(members)
        body = body if body.isascii() else ascii_line(body)
        outcome = Outcome(Fate.SUCCEEDED, reply.status, body, reply.request_id, usage=usage)
        outcomes.append(outcome)
    return outcomes


def shares(amount: int, weights: Sequence[int]) -> list[int]:
    """The amount divided by these weights into whole numbers whose sum it is."""
    whole = sum(weights)
    edges = (amount * sofar // whole for sofar in accumulate(weights, initial=0))
    return [after - before for before, after in pairwise(edges)]


def _by_index(entries: Sequence[Raw], count: int) -> list[bytes]:
    """The entries in the order of the inputs, each as the only one of its answer. Raises
    `ValueError`, `KeyError` unless each index is there once."""
    found: dict[int, bytes] = {}
    for raw in entries:
        entry = _MEMBERS.decode(raw)
        index = _NUMBER.decode(entry["index"])
        entry["index"] = Raw(b"0")
        found[index] = msgspec.json.encode(entry)
    if len(entries) != count:
        raise ValueError(f"{len(entries)} answers to {count} inputs")
    return [found[index] for index in range(count)]


def _divided(used: object, weights: Sequence[int]) -> list[object]:
    """Whole numbers are divided, however deep they stand; what is no number is everybody's."""
    match used:
        case bool():
            return [used] * len(weights)
        case int():
            return list(shares(used, weights))
        case float():
            return [used * weight / sum(weights) for weight in weights]
        case dict():
            columns = {name: _divided(value, weights) for name, value in used.items()}
            return [{name: its[n] for name, its in columns.items()} for n in range(len(weights))]
        case _:
            return [used] * len(weights)


def _usages(usage: Usage, weights: Sequence[int]) -> list[Usage]:
    counts = msgspec.structs.astuple(usage)
    return [Usage(*its) for its in zip(*(shares(n, weights) for n in counts), strict=True)]


def _one_text(value: bytes) -> bytes | None:
    """The one string that an input is, or has as a list; None where it is anything else, such as
    tokens, or empty, which engines refuse."""
    if value.startswith(b"["):
        texts = _LIST.decode(value)
        value = bytes(texts[0]) if len(texts) == 1 else b""
    return value if value.startswith(b'"') and value != b'""' else None
