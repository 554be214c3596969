"""Files in parts across kills of `serve`: what was acknowledged is kept, what was not can be sent
again, and nothing is left over."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.crash.sweeping import uploaded_blobs_left
from tests.serving import Serve, chat_lines, descendants, eventually, living, serving

PIECE_BYTES = 8_000_000
PIECES = 8
EDGE = "edge"


def restart(serve: Serve) -> None:
    children = descendants(serve.pid)
    serve.kill()
    eventually(lambda: not living(children), 10, "every child to end")
    serve.start()


def send(serve: Serve, upload: str, data: bytes) -> str:
    head = f'--{EDGE}\r\ncontent-disposition: form-data; name="data"; filename="upload"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{EDGE}--\r\n".encode()
    kind = {"content-type": f"multipart/form-data; boundary={EDGE}"}
    answer = serve.http.call("POST", f"/v1/uploads/{upload}/parts", body, kind)
    assert answer.status == 200, answer
    return str(answer.json()["id"])


def complete(serve: Serve, upload: str, asked: dict[str, Any]) -> dict[str, Any]:
    answer = serve.http.call("POST", f"/v1/uploads/{upload}/complete", asked, timeout=60)
    assert answer.status == 200, answer
    return dict(answer.json())


def complete_if_it_lives(serve: Serve, upload: str, asked: dict[str, Any]) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        complete(serve, upload, asked)


@pytest.mark.timeout(240)
def test_a_file_in_parts_survives_kills_at_every_step(tmp_path: Path) -> None:
    line = chat_lines(1, "x" * 10_000)
    content = line * (PIECE_BYTES * PIECES // len(line))
    pieces = [content[at : at + PIECE_BYTES] for at in range(0, len(content), PIECE_BYTES)]
    data = tmp_path / "data"
    with serving(data, "--engine", "sim") as serve:
        announced = {"bytes": len(content), "filename": "a.jsonl", "mime_type": "text/plain"}
        upload = serve.http.call("POST", "/v1/uploads", announced).json()["id"]
        parts = [send(serve, upload, piece) for piece in pieces[:4]]
        restart(serve)
        parts += [send(serve, upload, piece) for piece in pieces[4:]]
        asked = {"part_ids": parts, "md5": hashlib.md5(content).hexdigest()}
        for seconds in (0.05, 0.1, 0.2, 0.4):
            trying = threading.Thread(target=complete_if_it_lives, args=(serve, upload, asked))
            trying.start()
            time.sleep(seconds)
            restart(serve)
            trying.join()
        done = complete(serve, upload, asked)
        assert complete(serve, upload, asked) == done
        assert serve.http.call("GET", "/v1/files").json()["total"] == 1
        read = serve.http.call("GET", f"/v1/files/{done['file']['id']}/content", timeout=60)
        assert read.body == content
        assert serve.stop() == 0
    left = asyncio.run(uploaded_blobs_left(data))
    assert left == [f"inputs/{done['file']['id']}"]
