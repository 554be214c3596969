"""Schedules and quotas as an operator sets them, through a real server and its worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.serving import chat_lines, eventually, serving


def test_a_job_waits_for_the_hours_of_its_engine_and_says_until_when(tmp_path: Path) -> None:
    opens = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=12)
    closes = opens + timedelta(minutes=30)
    config = tmp_path / "batchmill.toml"
    config.write_text(
        "max_pending_lines = 1000\n"
        "[tenants.default]\nmax_pending_lines = 500\n"
        f'[[engines]]\nurl = "sim"\nschedule = "{opens:%H:%M}-{closes:%H:%M}"\n'
    )
    with serving(tmp_path / "data", "--config", str(config)) as serve:
        upload = serve.upload(chat_lines(5))
        job = serve.create(input_files=[upload], model="sim", endpoint="/v1/chat/completions")

        def waits() -> bool:
            return bool(serve.job(job["id"])["progress"]["waiting_reason"] == "outside_schedule")

        eventually(waits, 30, "the job to wait for its engine's hours")
        progress = serve.job(job["id"])["progress"]
        assert progress["opens_at"] == opens.timestamp()
        assert progress["estimated_seconds_left"] is None
        limits = serve.http.call("GET", "/v1/limits").json()
        assert (limits["max_pending_lines"], limits["pending_lines"]) == (500, 0)
