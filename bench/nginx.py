"""nginx as an engine that answers at once: one process, no log, nothing read from disk but for
large answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.inputs import ENDPOINT, MODEL, answer
from bench.processes import free_port, listens, running, wait_until

LARGE_ANSWER_BYTES = 1_000_000
_MODELS = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
_CONFIG = """\
daemon off;
master_process off;
worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/nginx.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  default_type application/json;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_max_body_size 0;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  sendfile on;
  tcp_nodelay on;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {home};
    location = /v1/models {{ return 200 '{models}'; }}
    location = {endpoint} {{ return 200 '{small}'; }}
    location = /large/v1/models {{ return 200 '{models}'; }}
    location = /large{endpoint} {{ error_page 405 =200 /large.json; return 405; }}
    location = /large.json {{ }}
  }}
}}
"""


def program() -> str | None:
    """Where nginx is, if it is installed."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def instant_engine(home: Path) -> Iterator[str]:
    """The origin of a running nginx: `/v1` answers small, `/large/v1` with a megabyte."""
    home.mkdir()
    (home / "large.json").write_bytes(answer(LARGE_ANSWER_BYTES))
    port = free_port()
    config = home / "nginx.conf"
    config.write_text(
        _CONFIG.format(
            home=home, port=port, models=_MODELS, endpoint=ENDPOINT, small=answer().decode()
        )
    )
    command = [str(program()), "-e", str(home / "nginx.log"), "-p", str(home), "-c", str(config)]
    with running(command, home / "nginx.out"):
        wait_until(lambda: listens(port), 10, "the start of nginx")
        yield f"http://127.0.0.1:{port}"
