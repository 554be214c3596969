"""OpenAI's own SDKs, old and new, against a live server: each operation of each is one test."""

from __future__ import annotations

import pytest

from tests.wire.releases import Release, cases


@pytest.mark.parametrize(("release", "operation"), cases("openai"))
def test_an_sdk_can_do_what_its_users_do(
    release: Release, operation: str, problems: dict[str, str | None]
) -> None:
    assert problems[operation] is None, f"{release.name} {operation}:\n{problems[operation]}"
