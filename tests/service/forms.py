"""Multipart bodies, put together by hand."""

from __future__ import annotations

from collections.abc import Iterable

BOUNDARY = "b0undary"
HEADERS = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(name: str, content: bytes | str, *, filename: str | None = None, extra: str = "") -> bytes:
    content = content.encode() if isinstance(content, str) else content
    shown = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"{shown}\r\n{extra}\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes, end: bytes = f"--{BOUNDARY}--\r\n".encode()) -> bytes:
    return b"".join(parts) + end


def file_part(content: bytes, filename: str = "in.jsonl") -> bytes:
    return part("file", content, filename=filename)


def in_pieces(body: bytes, size: int) -> Iterable[bytes]:
    return (body[at : at + size] for at in range(0, len(body), size))
