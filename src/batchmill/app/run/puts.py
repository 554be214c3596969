"""Putting a finished file to a URL, as `vllm run-batch` does with its output."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from batchmill.app.run.targets import request_to, shown
from batchmill.errors import UserError

TRIES: Final = 5
PAUSE_SECONDS: Final = 1.0
TIMEOUT_SECONDS: Final = 600.0


def put(url: str, path: Path) -> None:
    """Send the file by PUT, again where the server or the way to it has a bad moment. Raises
    `UserError`; the file is still there then."""
    for tries in range(1, TRIES + 1):
        try:
            return _put_once(url, path)
        except urllib.error.HTTPError as error:
            problem = f"answered {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 429):
                break
        except urllib.error.URLError as error:
            problem = f"cannot be reached: {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            problem = f"failed: {error}"
        if tries < TRIES:
            time.sleep(PAUSE_SECONDS * tries)
    raise UserError(f"The results could not be put to {shown(url)}: it {problem}.")


def _put_once(url: str, path: Path) -> None:
    with path.open("rb") as body:
        length = str(path.stat().st_size)
        headers = {"Content-Length": length, "Content-Type": "application/jsonl"}
        request = request_to(url, body, headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):  # noqa: S310
            return
