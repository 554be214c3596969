"""wrk as the limit: what a request costs a client in C that keeps nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.inputs import ENDPOINT, body
from bench.processes import Failure

_SCRIPT = """\
wrk.method = "POST"
wrk.body = [[{body}]]
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept-Encoding"] = "identity"
wrk.headers["User-Agent"] = "batchmill/0"
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """What wrk did: requests, their rate, and its CPU for each."""

    requests: int
    requests_per_second: float
    cpu_us: float


def program() -> str | None:
    """Where wrk is, if it is installed."""
    return shutil.which("wrk")


def run(origin: str, home: Path, connections: int, seconds: int) -> Limit:
    """One thread of wrk posting the body of a line for that long."""
    script = home / "post.lua"
    script.write_text(_SCRIPT.format(body=body(0).decode()))
    command = [str(program()), "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script)]
    with subprocess.Popen([*command, origin + ENDPOINT], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        report = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    found = re.search(r"(\d+) requests in ([\d.]+)(m?s)", report)
    if found is None or "Non-2xx" in report or "Socket errors" in report:
        raise Failure(f"wrk did not get clean answers: {' '.join(report.split())}")
    requests, elapsed = int(found[1]), float(found[2]) / (1000 if found[3] == "ms" else 1)
    cpu = usage.ru_utime + usage.ru_stime
    return Limit(requests, requests / elapsed, cpu / requests * 1e6)
