"""A little client of the APIs that are measured: one request per connection."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from bench.processes import Failure

_PIECE: Final = 1024 * 1024
_BOUNDARY: Final = "batchmill-bench-boundary"
_JSON: Final = {"content-type": "application/json"}


class Refused(Failure):
    """The server answered, and not with what was asked for."""


class Client:
    """Talks to a server on loopback."""

    def __init__(self, port: int, key: str = "") -> None:
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self.port = port

    def get(self, path: str) -> Any:
        """The JSON that a GET answers."""
        return self._call("GET", path)

    def post(self, path: str, fields: dict[str, Any] | None = None) -> Any:
        """The JSON that a POST answers."""
        body = b"" if fields is None else json.dumps(fields).encode()
        return self._call("POST", path, body, {} if fields is None else _JSON)

    def upload(self, path: Path) -> str:
        """Upload a batch file; its id."""
        head = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; '
            f'filename="{path.name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        ).encode()
        tail = f"\r\n--{_BOUNDARY}--\r\n".encode()
        headers = {
            "content-type": f"multipart/form-data; boundary={_BOUNDARY}",
            "content-length": str(len(head) + path.stat().st_size + len(tail)),
        }
        answer = self._call("POST", "/v1/files", _multipart(head, path, tail), headers)
        return str(answer["id"])

    def pieces(self, file: str) -> Iterator[bytes]:
        """A result file, piece by piece."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)) as client:
            client.request("GET", f"/v1/files/{file}/content", headers=self._headers)
            response = client.getresponse()
            while piece := response.read(_PIECE):
                yield piece

    def _call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Any:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)) as client:
            client.request(method, path, body, self._headers | (headers or {}))
            response = client.getresponse()
            text = response.read()
        if response.status != 200:
            raise Refused(f"{method} {path} answered {response.status}: {text[:200]!r}")
        return json.loads(text)


def _multipart(head: bytes, path: Path, tail: bytes) -> Iterator[bytes]:
    yield head
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
    yield tail
