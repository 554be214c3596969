"""Health, limits, models, figures, documents, and what all replies share."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchmill.core.models import Catalogue
from batchmill.errors import BlobsUnavailable, LedgerUnavailable
from batchmill.fleet import Beat, EngineState, EngineStatus
from tests.service.rig import BODY, ENGINE, Rig, lines, open_rig


async def test_every_reply_has_a_request_id(rig: Rig) -> None:
    for path in ("/healthz", "/nowhere", "/v1/files/x", "/docs"):
        ids = {(await rig.call("GET", path)).headers["x-request-id"] for _ in range(2)}
        assert len(ids) == 2
    given = await rig.call("GET", "/healthz", headers={"x-request-id": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    bad = await rig.call("GET", "/healthz", headers={"x-request-id": "a b"})
    assert bad.headers["x-request-id"] != "a b"


async def test_an_error_is_read_by_both_vendors_sdks(rig: Rig) -> None:
    reply = await rig.call("GET", "/v1/files/nothing")
    facts = {
        "message": "No such File object: nothing",
        "type": "invalid_request_error",
        "param": "id",
        "code": None,
    }
    assert reply.json() == {"object": "error", **facts, "error": facts}
    assert reply.headers["content-type"] == "application/json"


async def test_an_unprocessable_request_lists_what_is_wrong(rig: Rig) -> None:
    reply = await rig.call("GET", "/v1/batch/jobs?page=x&page_size=0")
    assert reply.status_code == 422
    assert [each["loc"] for each in reply.json()["detail"]] == [
        ["query", "page"],
        ["query", "page_size"],
    ]
    assert reply.json()["param"] == "page"


async def test_a_wrong_method_names_the_right_ones(rig: Rig) -> None:
    reply = await rig.call("PUT", "/v1/files")
    assert (reply.status_code, reply.json()["code"]) == (405, "method_not_allowed")
    assert reply.headers["allow"] == "GET, HEAD, POST"
    reply = await rig.call("HEAD", "/v1/batch/jobs/x/cancel")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")


async def test_a_base_url_that_ends_in_v1_works_too(rig: Rig) -> None:
    file = await rig.upload(lines(1))
    assert (await rig.get(f"/v1/v1/files/{file['id']}"))["id"] == file["id"]
    assert (await rig.get("/v1/v1/models/org/large"))["id"] == "org/large"
    assert (await rig.get("/v1/files/"))["total"] == 1


async def test_a_mistake_of_ours_is_a_500_that_says_only_its_id(rig: Rig) -> None:
    async def catalogue() -> Catalogue:
        raise RuntimeError("secret details")

    services: Any = rig.app.state.services
    broken = type(services)(
        services.ledger, services.blobs, catalogue, services.rules, services.clock, services.wake
    )
    rig.app.state.services = broken
    reply = await rig.call("GET", "/v1/models")
    assert reply.status_code == 500
    assert "secret" not in reply.text
    assert reply.headers["x-request-id"] in reply.json()["message"]
    (logged,) = [each for each in rig.logs if each["event"] == "request_failed"]
    assert logged["request_id"] == reply.headers["x-request-id"]
    assert logged["exc_info"]


async def test_a_ledger_that_is_away_is_a_503(rig: Rig) -> None:
    class Away:
        def __getattr__(self, name: str) -> Any:
            async def fail(*_: object) -> None:
                raise LedgerUnavailable("no")

            return fail

    services: Any = rig.app.state.services
    rig.app.state.services = type(services)(
        Away(), services.blobs, services.catalogue, services.rules, services.clock, services.wake
    )
    reply = await rig.call("GET", "/v1/files")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    ready = await rig.call("GET", "/readyz")
    assert (ready.status_code, ready.json()["ledger"]) == (503, "does not answer")
    alone = await rig.call("GET", "/readyz?stores=false")
    assert (alone.status_code, alone.json()["ledger"]) == (200, "not asked")
    rig.app.state.draining = True
    assert (await rig.call("GET", "/readyz?stores=false")).status_code == 503
    rig.app.state.draining = False
    assert (await rig.call("GET", "/healthz")).status_code == 200
    assert "batchmill_ledger_up 0.0" in (await rig.call("GET", "/metrics")).text


async def test_storage_that_cannot_be_written_is_a_503(rig: Rig) -> None:
    class Broken:
        async def free_bytes(self) -> None:
            return None

        async def put_many(self, *_: object) -> None:
            raise BlobsUnavailable("no")

        async def writer(self, *_: object) -> None:
            raise BlobsUnavailable("no")

    services: Any = rig.app.state.services
    rig.app.state.services = type(services)(
        services.ledger, Broken(), services.catalogue, services.rules, services.clock, services.wake
    )
    asked = {"endpoint": "/v1/ocr", "model": "small", "requests": [{"body": {}}]}
    for reply in (
        await rig.call("POST", "/v1/files", files={"file": ("x", b"{}")}),
        await rig.call("POST", "/v1/batch/jobs", json=asked),
    ):
        assert (reply.status_code, reply.json()["code"]) == (503, "storage_unavailable")
    ready = await rig.call("GET", "/readyz")
    assert (ready.status_code, ready.json()["storage"]) == (503, "cannot be written")


async def test_a_healthy_server_is_ready(rig: Rig) -> None:
    assert await rig.get("/healthz") == {"status": "ok"}
    for _ in range(3):
        assert await rig.get("/readyz") == {"status": "ready", "ledger": "ok", "storage": "ok"}
    rig.clock.advance(3)
    shutil.rmtree(rig.root)
    rig.root.write_text("not a directory")
    ready = await rig.call("GET", "/readyz")
    assert (ready.status_code, ready.json()["storage"]) == (503, "cannot be written")


async def test_limits_are_told(rig: Rig) -> None:
    limits = await rig.get("/v1/limits")
    assert (limits["job_lines"], limits["file_bytes"]) == (1_000_000, 512_000_000)
    assert len(limits["endpoints"]) == 12
    assert (limits["upload_parts"], limits["upload_part_bytes"]) == (10_000, 64 * 1024 * 1024)


async def test_models_are_listed_with_their_aliases_on_cards_for_both_vendors(rig: Rig) -> None:
    found = await rig.get("/v1/models")
    assert [card["id"] for card in found["data"]] == ["alias", "org/large", "small"]
    card = found["data"][2]
    assert (card["object"], card["type"], card["created"]) == ("model", "base", 0)
    assert (card["owned_by"], card["aliases"]) == ("gpu1", ["alias"])
    assert isinstance(card["capabilities"], dict)
    assert found["data"][0]["served_as"] == "small"


@pytest.mark.parametrize("path", ["org/large", "org%2Flarge", "org%2flarge"])
async def test_a_models_name_may_hold_slashes(rig: Rig, path: str) -> None:
    assert (await rig.get(f"/v1/models/{path}"))["id"] == "org/large"


async def test_an_unknown_model_is_404_unless_a_wildcard_serves_it(rig: Rig) -> None:
    reply = await rig.call("GET", "/v1/models/gpt-9")
    assert (reply.status_code, reply.json()["code"]) == (404, "model_not_found")
    rig.catalogue = Catalogue({"*": "small"}, (ENGINE,))
    assert (await rig.get("/v1/models/gpt-9"))["served_as"] == "small"


async def test_a_simulators_models_say_so(rig: Rig) -> None:
    sim = EngineStatus("sim", "sim", EngineState.UP, models=("m",), seen_at=1.0, simulated=True)
    rig.catalogue = Catalogue({}, (sim,))
    card = await rig.get("/v1/models/m")
    assert card["simulated"] is True
    assert "simulator" in card["description"]


async def test_figures_count_jobs_and_requests_by_route(rig: Rig) -> None:
    file = await rig.upload(lines(2))
    await rig.create(input_files=[file["id"]])
    await rig.call("GET", f"/v1/files/{file['id']}")
    await rig.call("HEAD", f"/v1/files/{file['id']}")
    await rig.call("GET", "/nowhere/at/all")
    await rig.call("BREW", "/v1/files")
    await rig.ledger.renew(await rig.worker(), [], Beat(engines=(ENGINE,)))
    text = (await rig.call("GET", "/metrics")).text
    assert 'batchmill_jobs{state="validating"} 1.0' in text
    assert "batchmill_open_lines 2.0" in text
    assert 'batchmill_engine_up{engine="gpu1"} 1.0' in text
    counted = 'batchmill_http_requests_total{method="GET",route="/v1/files/{file_id}",status="200"}'
    assert f"{counted} 1.0" in text
    assert f"{counted.replace('GET', 'HEAD')} 1.0" in text
    assert 'route="unknown",status="404"' in text
    assert 'method="other"' in text
    assert file["id"] not in text


async def test_engines_are_listed_with_their_windows_and_why(rig: Rig) -> None:
    seen = replace(ENGINE, window=51, in_flight=50, adaptive=True, running=48.0, waiting=3.0)
    seen = replace(seen, decision="calls wait in the engine", decided_at=7.5)
    await rig.ledger.renew(await rig.worker(), [], Beat(engines=(seen,)))
    assert await rig.get("/v1/engines") == {
        "object": "list",
        "data": [
            {
                "object": "engine",
                "name": "gpu1",
                "kind": "vllm",
                "state": "up",
                "reason": None,
                "models": ["org/large", "small"],
                "simulated": False,
                "is_open": True,
                "is_limited": False,
                "seen_at": 1,
                "workers": 1,
                "concurrency": "auto",
                "politeness": "full",
                "window": 51,
                "in_flight": 50,
                "has_metrics": True,
                "running": 48.0,
                "waiting": 3.0,
                "decision": {"why": "calls wait in the engine", "at": 7},
            }
        ],
    }
    text = (await rig.call("GET", "/metrics")).text
    assert 'batchmill_engine_window{engine="gpu1"} 51.0' in text
    assert 'batchmill_engine_waiting{engine="gpu1"} 3.0' in text


async def test_an_engine_that_no_worker_uses_is_listed_as_unknown(rig: Rig) -> None:
    [card] = (await rig.get("/v1/engines"))["data"]
    assert (card["state"], card["workers"], card["window"]) == ("unknown", 0, 0)
    assert card["reason"] == "no worker that uses it is alive"


async def test_the_reference_needs_nothing_from_elsewhere(rig: Rig) -> None:
    page = (await rig.call("GET", "/docs")).text
    assert "/v1/batch/jobs/{job_id}/cancel" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page


async def test_the_openapi_document_has_every_route_and_only_known_schemas(rig: Rig) -> None:
    document = await rig.get("/openapi.json")
    routes = {
        f"{method.upper()} {path}" for path, each in document["paths"].items() for method in each
    }
    assert routes == {
        "GET /v1/files",
        "POST /v1/files",
        "GET /v1/files/{file_id}",
        "DELETE /v1/files/{file_id}",
        "GET /v1/files/{file_id}/content",
        "HEAD /v1/files/{file_id}/content",
        "GET /v1/files/{file_id}/url",
        "GET /v1/files/{file_id}/signed",
        "HEAD /v1/files/{file_id}/signed",
        "POST /v1/uploads",
        "GET /v1/uploads/{upload_id}",
        "POST /v1/uploads/{upload_id}/parts",
        "POST /v1/uploads/{upload_id}/complete",
        "POST /v1/uploads/{upload_id}/cancel",
        "GET /v1/models",
        "GET /v1/models/{model_id}",
        "GET /v1/batch/jobs",
        "POST /v1/batch/jobs",
        "GET /v1/batch/jobs/{job_id}",
        "DELETE /v1/batch/jobs/{job_id}",
        "POST /v1/batch/jobs/{job_id}/cancel",
        "GET /v1/batches",
        "POST /v1/batches",
        "GET /v1/batches/{batch_id}",
        "POST /v1/batches/{batch_id}/cancel",
        *(
            route.replace(" ", f" {jobs}/{{job_id}}/")
            for jobs in ("/v1/batch/jobs", "/v1/batches")
            for route in (
                "POST pause",
                "POST resume",
                "POST extend",
                "POST retry",
                "GET results",
                "GET progress",
            )
        ),
        "GET /v1/webhook_deliveries",
        "GET /v1/webhook_deliveries/{delivery_id}",
        "POST /v1/webhook_deliveries/{delivery_id}/redeliver",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "GET /v1/limits",
        "GET /v1/engines",
        "GET /v1/workers",
    }
    text = json.dumps(document)
    assert "#/$defs/" not in text, "what stands inside a body's schema cannot be found there"
    named = set(document["components"]["schemas"])
    for piece in text.split('"#/components/schemas/')[1:]:
        assert piece.partition('"')[0] in named
    ids = [o["operationId"] for each in document["paths"].values() for o in each.values()]
    assert len(ids) == len(set(ids))


async def test_a_large_body_is_read_within_bounds(rig: Rig) -> None:
    text = "x" * 3_000_000
    job = await rig.create(requests=[{"body": {**BODY, "text": text}}])
    assert job["total_requests"] == 1
    reply = await rig.call("POST", "/v1/batch/jobs", content=b" " * (64 * 1024 * 1024 + 1))
    assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large")
    assert rig.stored_files() == [f"inputs/{(await rig.get('/v1/files'))['data'][0]['id']}"]


async def test_a_large_body_whose_turn_does_not_come_is_a_503(tmp_path: Path) -> None:
    async with open_rig(tmp_path, turn_seconds=0.1) as rig:
        assert rig.app is not None
        turns = rig.app.state.services.large_bodies
        async with turns, turns:
            body = b'{"endpoint":"/v1/ocr","requests":"%b"}' % (b"x" * 2_000_000)
            reply = await rig.call("POST", "/v1/batch/jobs", content=body)
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
            await rig.create(requests=[{"body": BODY}])
        assert len(rig.stored_files()) == 1, "the small one's"
