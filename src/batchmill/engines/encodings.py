"""Undoing a content encoding that was never asked for, without trusting it.

We ask for `identity`; some proxies compress all the same.
"""

from __future__ import annotations

import zlib

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Undecodable(Exception):
    """The body is not in the encoding that its header names, or that one is not known."""


def decoded(raw: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The body without its content encoding, of which gzip and deflate are known.

    Raises `Undecodable`, also where it would come out larger than `limit_bytes`.
    """
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return raw
    if name not in _WINDOW_BITS:
        raise Undecodable(f'The answer is encoded with "{name[:40]}", which nobody asked for.')
    stream = zlib.decompressobj(_WINDOW_BITS[name])
    try:
        body = stream.decompress(raw, limit_bytes)
    except zlib.error as error:
        raise Undecodable(f"The answer is not in the {name} encoding that it claims.") from error
    if stream.unconsumed_tail:
        raise Undecodable(f"The answer unpacks to more than {limit_bytes // 1_000_000} MB.")
    if not stream.eof:
        raise Undecodable(f"The answer is cut off within its {name} encoding.")
    return body
