"""What a run refuses before it begins, and when it goes on."""

from __future__ import annotations

import pytest

from batchmill.app.run.wanted import Wanted
from batchmill.config import load
from batchmill.errors import UserError


def test_an_endpoint_that_is_none_is_refused_at_once() -> None:
    Wanted("in", "out", load({}), endpoint="/v1/embeddings")
    with pytest.raises(UserError, match=r"'/v1/nope' is none; there are /v1/chat/completions"):
        Wanted("in", "out", load({}), endpoint="/v1/nope")
