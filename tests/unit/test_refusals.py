"""What an object store's errors are taken for."""

from __future__ import annotations

import pytest

from batchmill.blobs.refusals import judged
from batchmill.errors import BlobMissing, BlobsRefused, BlobsUnavailable

NAME = "jobs/j1/parts/0.1.0"


def said(status: str, body: str) -> Exception:
    place = f"Object at location {NAME} not found: Error performing GET http://store/b/{NAME}"
    return FileNotFoundError(
        f"{place} in 2ms - Server returned non-2xx status code: {status}: {body}"
        f"\n\nDebug source:\nNotFound {{ body: <Code>NoSuchKey</Code> }}"
    )


def of_store(code: str) -> str:
    return f'<?xml version="1.0"?>\n<Error><Code>{code}</Code><Message>No</Message></Error>'


@pytest.mark.parametrize("code", ["NoSuchKey", "BlobNotFound"])
def test_a_blob_is_missing_where_its_store_says_so(code: str) -> None:
    assert isinstance(
        judged(said("404 Not Found", of_store(code)), NAME, reading=True), BlobMissing
    )


@pytest.mark.parametrize("body", ["404 page not found\n", "", "<html>no such backend</html>"])
@pytest.mark.parametrize("reading", [True, False])
def test_a_gateways_own_404_says_nothing_of_a_blob(body: str, *, reading: bool) -> None:
    error = judged(said("404 Not Found", body), NAME, reading=reading)
    assert isinstance(error, BlobsUnavailable)
    assert not isinstance(error, BlobsRefused)


@pytest.mark.parametrize("code", ["NoSuchBucket", "ContainerNotFound"])
@pytest.mark.parametrize("reading", [True, False])
def test_a_place_that_does_not_exist_is_no_missing_blob(code: str, *, reading: bool) -> None:
    error = judged(said("404 Not Found", of_store(code)), NAME, reading=reading)
    assert isinstance(error, BlobsRefused)
    assert code in str(error)
