"""The fields of an upload, from both vendors' forms, and what content each purpose needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batchmill.core.names import input_name
from batchmill.core.submit import BATCH_PURPOSE
from batchmill.errors import InvalidFile, InvalidInput
from batchmill.model import File, FileId, FileSource, TenantId
from batchmill.web.uploads import Upload

MAX_EXPIRY_HOURS = 24 * 366
MIN_EXPIRES_SECONDS, MAX_EXPIRES_SECONDS = 3_600, 2_592_000
VISIBILITIES = ("workspace", "user")
_PURPOSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NUMBER = re.compile(r"[0-9]{1,12}")

FORM_SCHEMA: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "purpose": {
                        "type": "string",
                        "default": BATCH_PURPOSE,
                        "pattern": f"^{_PURPOSE.pattern}$",
                    },
                    "visibility": {"type": "string", "enum": list(VISIBILITIES)},
                    "expiry": {
                        "type": "integer",
                        "minimum": 1,
                        "maximum": MAX_EXPIRY_HOURS,
                        "description": "Hours to keep the file (Mistral)",
                    },
                    "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                    "expires_after[seconds]": {
                        "type": "integer",
                        "minimum": MIN_EXPIRES_SECONDS,
                        "maximum": MAX_EXPIRES_SECONDS,
                        "description": "Seconds to keep the file (OpenAI)",
                    },
                },
            }
        }
    },
}


@dataclass(frozen=True, slots=True)
class FileFields:
    """What an upload says about its file."""

    purpose: str = BATCH_PURPOSE
    visibility: str | None = None
    lasts_seconds: int | None = None


def read_fields(fields: Mapping[str, str]) -> FileFields:
    """The fields of a form; empty ones are absent. Raises `InvalidInput`."""
    given = {name: text for name, text in fields.items() if text}
    purpose = given.get("purpose", BATCH_PURPOSE)
    check_purpose(purpose)
    visibility = given.get("visibility")
    if visibility is not None and visibility not in VISIBILITIES:
        raise InvalidInput(
            f"visibility must be one of {', '.join(VISIBILITIES)}.",
            param="visibility",
            code="invalid_value",
            status=422,
        )
    return FileFields(purpose, visibility, _lasts_seconds(given))


def check_purpose(purpose: str) -> None:
    """Raise `InvalidInput` for what cannot be a purpose."""
    if _PURPOSE.fullmatch(purpose) is None:
        raise InvalidInput(
            "A purpose is up to 64 letters, digits, dots, hyphens and underscores.",
            param="purpose",
            code="invalid_value",
        )


def new_file(
    id: FileId, upload: Upload, fields: FileFields, tenant: TenantId, now: float, keep: float
) -> File:
    """The file that its fields and its bytes describe. It lasts as long as it says, and at most
    the `keep` seconds of this installation (0: for ever). Raises `InvalidFile`."""
    check_content(fields.purpose, upload)
    lasts = [seconds for seconds in (fields.lasts_seconds, keep) if seconds]
    is_lines = fields.purpose == BATCH_PURPOSE or (upload.filename or "").lower().endswith(".jsonl")
    mimetype = upload.mimetype
    if is_lines and mimetype in {None, "application/octet-stream"}:
        mimetype = "application/jsonl"
    return File(
        id=id,
        tenant=tenant,
        filename=upload.filename or "upload",
        purpose=fields.purpose,
        source=FileSource.UPLOAD,
        size_bytes=upload.size_bytes,
        created_at=now,
        lines=upload.lines.lines if is_lines else None,
        mimetype=mimetype,
        visibility=fields.visibility,
        signature=upload.digest.hexdigest(),
        expires_at=now + min(lasts) if lasts else None,
        blob=input_name(id),
    )


def check_content(purpose: str, upload: Upload) -> None:
    """Raise `InvalidFile` when a file for a batch holds nothing, or begins with no JSON object."""
    if purpose != BATCH_PURPOSE:
        return
    if upload.lines.lines == 0:
        raise InvalidFile(
            "The file is empty; a batch needs at least one request.",
            param="file",
            code="empty_file",
        )
    if not upload.lines.first_is_object:
        raise InvalidFile(
            "The first line is no JSON object; a batch file holds one JSON object per line.",
            line=1,
            param="file",
            code="invalid_json_line",
        )


def _lasts_seconds(given: Mapping[str, str]) -> int | None:
    """How long the file is to be kept: Mistral's `expiry` or OpenAI's `expires_after`."""
    anchor, seconds = given.get("expires_after[anchor]"), given.get("expires_after[seconds]")
    if anchor is not None and anchor != "created_at":
        raise InvalidInput(
            "The only anchor is created_at.", param="expires_after[anchor]", code="invalid_value"
        )
    if (anchor is None) != (seconds is None):
        missing = "anchor" if anchor is None else "seconds"
        raise InvalidInput(
            "expires_after needs both anchor and seconds.",
            param=f"expires_after[{missing}]",
            code="missing_required_parameter",
        )
    if seconds is not None:
        low, high = MIN_EXPIRES_SECONDS, MAX_EXPIRES_SECONDS
        return _number(seconds, low, high, "expires_after[seconds]", 400)
    if (hours := given.get("expiry")) is not None:
        return _number(hours, 1, MAX_EXPIRY_HOURS, "expiry", 422) * 3600
    return None


def _number(text: str, low: int, high: int, param: str, status: int) -> int:
    if _NUMBER.fullmatch(text) is None or not low <= int(text) <= high:
        raise InvalidInput(
            f"{param} must be a whole number from {low} to {high}.",
            param=param,
            code="invalid_value",
            status=status,
        )
    return int(text)
