from __future__ import annotations

from pathlib import Path

import pytest

from batchmill.web.api import KeyMode
from tests.service.rig import Rig, open_rig

KEYED = [
    ("GET", "/v1/files"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files/x"),
    ("DELETE", "/v1/files/x"),
    ("GET", "/v1/files/x/content"),
    ("GET", "/v1/files/x/url"),
    ("POST", "/v1/uploads"),
    ("GET", "/v1/uploads/x"),
    ("POST", "/v1/uploads/x/parts"),
    ("POST", "/v1/uploads/x/complete"),
    ("POST", "/v1/uploads/x/cancel"),
    ("GET", "/v1/batch/jobs"),
    ("POST", "/v1/batch/jobs"),
    ("GET", "/v1/batch/jobs/x"),
    ("DELETE", "/v1/batch/jobs/x"),
    ("POST", "/v1/batch/jobs/x/cancel"),
    ("GET", "/v1/webhook_deliveries"),
    ("GET", "/v1/webhook_deliveries/x"),
    ("POST", "/v1/webhook_deliveries/x/redeliver"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/a/b"),
    ("GET", "/v1/limits"),
    ("GET", "/v1/engines"),
    ("GET", "/v1/workers"),
    ("GET", "/metrics"),
]


@pytest.mark.parametrize(("method", "path"), KEYED)
async def test_a_key_is_needed_once_one_was_made(rig: Rig, method: str, path: str) -> None:
    assert (await rig.call(method, path)).status_code not in {401, 403}
    mine = await rig.key("a", "right-key")
    reply = await rig.call(method, path)
    assert (reply.status_code, reply.json()["code"]) == (401, None)
    assert reply.headers["www-authenticate"] == "Bearer"
    wrong = await rig.call(method, path, headers={"authorization": "Bearer wrong"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_api_key")
    assert wrong.json()["type"] == "authentication_error"
    assert wrong.json()["error"]["type"] == "invalid_request_error"
    assert (await rig.call(method, path, headers=mine)).status_code not in {401, 403}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.json"])
async def test_health_and_documents_need_no_key(rig: Rig, path: str) -> None:
    await rig.key("a", "right-key")
    assert (await rig.call("GET", path, headers={"host": "example.com"})).status_code == 200


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Basic eDp5", "right-key", "bearer  right-keyx"]
)
async def test_anything_but_a_bearer_key_is_refused(rig: Rig, authorization: str) -> None:
    await rig.key("a", "right-key")
    reply = await rig.call("GET", "/v1/files", headers={"authorization": authorization})
    assert reply.status_code == 401


async def test_the_scheme_is_read_in_any_case(rig: Rig) -> None:
    await rig.key("a", "right-key")
    reply = await rig.call("GET", "/v1/files", headers={"authorization": "bearer right-key"})
    assert reply.status_code == 200


async def test_a_revoked_key_works_for_a_second_at_most(rig: Rig) -> None:
    mine = await rig.key("a", "right-key")
    assert (await rig.call("GET", "/v1/files", headers=mine)).status_code == 200
    (record,) = await rig.ledger.keys()
    assert await rig.ledger.revoke_key(record.id)
    rig.clock.advance(1.0)
    assert (await rig.call("GET", "/v1/files", headers=mine)).status_code == 401


async def test_without_keys_any_key_is_accepted_on_loopback(rig: Rig) -> None:
    reply = await rig.call("GET", "/v1/files", headers={"authorization": "Bearer whatever"})
    assert reply.status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8470", 200),
        ("LocalHost:1", 200),
        ("my.localhost:80", 200),
        ("127.0.0.1:8470", 200),
        ("127.9.9.9", 200),
        ("[::1]:8470", 200),
        ("evil.example.com", 403),
        ("127.0.0.1.evil.example.com", 403),
        ("localhost.evil.example.com", 403),
        ("192.168.0.1:8470", 403),
        ("127.0.0.1@evil.example.com", 403),
        ("", 403),
    ],
)
async def test_without_keys_only_this_machines_names_are_answered(
    rig: Rig, host: str, status: int
) -> None:
    assert (await rig.call("GET", "/v1/files", headers={"host": host})).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8470", 200),
        ("http://127.0.0.1:3000", 403),
        ("https://evil.example.com", 403),
        ("http://[bad", 403),
        ("null", 403),
    ],
)
async def test_without_keys_no_other_web_page_is_answered(
    rig: Rig, origin: str, status: int
) -> None:
    reply = await rig.call("GET", "/v1/files", headers={"origin": origin})
    assert reply.status_code == status


async def test_the_public_address_is_ours_too(tmp_path: Path) -> None:
    async with open_rig(tmp_path, public_url="https://batch.example.com") as rig:
        headers = {"host": "batch.example.com", "origin": "https://batch.example.com"}
        assert (await rig.call("GET", "/v1/files", headers=headers)).status_code == 200


async def test_insecure_asks_nobody_until_a_key_is_made(tmp_path: Path) -> None:
    async with open_rig(tmp_path, key_mode=KeyMode.INSECURE) as rig:
        foreign = {"host": "example.com"}
        assert (await rig.call("GET", "/v1/files", headers=foreign)).status_code == 200
        await rig.key("a", "right-key")
        assert (await rig.call("GET", "/v1/files", headers=foreign)).status_code == 401


async def test_required_asks_even_before_any_key_is_made(tmp_path: Path) -> None:
    async with open_rig(tmp_path, key_mode=KeyMode.REQUIRED) as rig:
        assert (await rig.call("GET", "/v1/files")).status_code == 401
