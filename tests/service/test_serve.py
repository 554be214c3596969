"""`batchmill serve` as a user meets it: real processes, a real socket, a real directory."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.serving import Serve, chat_lines, descendants, eventually, living, serving

SIM = ("--engine", "sim")
pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory):
    with serving(tmp_path_factory.mktemp("serve") / "data", *SIM) as serve:
        yield serve


def run(
    *arguments: str, seconds: float = 30, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command line, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "batchmill", *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env=os.environ | environment,
    )


def refusal(*arguments: str, **environment: str) -> str:
    """The one line with which `serve` says that it cannot begin."""
    done = run("serve", "--port", "0", *arguments, **environment)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    [line] = done.stderr.splitlines()
    assert not done.stdout
    return line


def test_start_says_in_four_lines_where_and_what(running: Serve) -> None:
    assert running.process is not None
    rest = iter(running.process.popen.stdout)  # type: ignore[union-attr]
    lines = [*running.process.lines, *(next(rest).rstrip() for _ in range(3))]
    url = f"http://127.0.0.1:{running.port}"
    assert lines[0].endswith(f"listens on {url}")
    assert lines[1] == "engines     sim serves sim"
    assert lines[2].startswith(f"server_url = {url} ")
    assert lines[3].startswith(f"base_url = {url}/v1 ")


def test_the_data_directory_is_for_its_owner_alone(running: Serve) -> None:
    for place in (running.data, running.data / "blobs"):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert (running.data / "ledger.sqlite").exists()


def test_a_second_serve_on_the_same_directory_is_refused(running: Serve) -> None:
    line = refusal("--data", str(running.data))
    assert "in use by another batchmill serve" in line
    assert str(running.pid) in line
    assert running.http.call("GET", "/healthz").status == 200


def test_a_port_in_use_is_one_line(running: Serve, tmp_path: Path) -> None:
    line = refusal("--data", str(tmp_path / "d"), "--port", str(running.port))
    assert f"port {running.port} is in use" in line


def lives_again(serve: Serve, name: str, before: int) -> bool:
    return serve.child(name) not in (None, before)


def test_a_child_that_is_killed_is_started_again(running: Serve) -> None:
    for name in ("api", "worker", "sim"):
        before = running.child(name)
        assert before is not None
        os.kill(before, signal.SIGKILL)
        eventually(partial(lives_again, running, name, before), 15, f"{name} to come back")
    running.wait_ready()


def test_a_port_keeps_accepting_while_the_api_starts_again(running: Serve) -> None:
    api = running.child("api")
    assert api is not None
    os.kill(api, signal.SIGKILL)
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as waiting:
        waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert waiting.recv(15).startswith(b"HTTP/1.1 200")


def test_no_child_shows_a_key(tmp_path: Path) -> None:
    config = tmp_path / "b.toml"
    config.write_text('[[engines]]\nurl = "http://127.0.0.1:1/v1"\nkey = "hush-hush"\n')
    with serving(tmp_path / "data", "--config", str(config)) as serve:
        for pid in [serve.pid, *descendants(serve.pid)]:
            assert b"hush-hush" not in Path(f"/proc/{pid}/cmdline").read_bytes()
            assert b"hush-hush" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert "hush-hush" not in serve.log.read_text()


def test_an_engine_that_is_down_is_said_and_not_fatal(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--engine", "http://127.0.0.1:1/v1") as serve:
        assert serve.process is not None
        rest = iter(serve.process.popen.stdout)  # type: ignore[union-attr]
        assert next(rest).startswith("engines     127.0.0.1:1 is down: ")
        assert serve.http.call("GET", "/readyz").status == 200


def test_sigterm_ends_everything_in_time(tmp_path: Path) -> None:
    with serving(tmp_path / "data", *SIM) as serve:
        children = descendants(serve.pid)
        assert len(children) >= 3
        began = time.monotonic()
        assert serve.stop() == 0
        assert time.monotonic() - began < 10
        assert not living(children)
        assert "Traceback" not in serve.log.read_text()


@pytest.mark.parametrize("stream", ["progress", "results?follow=true"])
def test_nobody_who_follows_a_job_holds_up_a_stop(stream: str, tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--engine", "sim:latency=60s") as serve:
        file = serve.upload(chat_lines(2))
        job = serve.create(input_files=[file])["id"]
        url = f"http://127.0.0.1:{serve.port}/v1/batch/jobs/{job}/{stream}"
        with urlopen(url, timeout=30) as answer:
            assert answer.status == 200
            assert serve.stop() == 0
            answer.read()
        assert "timeout graceful shutdown" not in serve.log.read_text()


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with serving(tmp_path / "data", *SIM) as serve:
        children = descendants(serve.pid)
        for pid in children:
            os.kill(pid, signal.SIGSTOP)
        assert serve.process is not None
        popen = serve.process.popen
        assert popen is not None
        popen.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            popen.wait(1)
        popen.send_signal(signal.SIGINT)
        assert popen.wait(3) == 1
        eventually(lambda: not living(children), 5, "every child to end")


def test_a_killed_serve_leaves_no_process_and_the_next_one_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path / "data", *SIM) as serve:
        children = descendants(serve.pid)
        serve.kill()
        began = time.monotonic()
        serve.start()
        assert time.monotonic() - began < 10
        assert not living(children)
        assert serve.stop() == 0


def test_it_goes_on_when_nobody_reads_what_it_says(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "batchmill", "serve", "--port", "0", "--data", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as popen:
        assert popen.stdout is not None
        popen.stdout.close()
        lock = tmp_path / "serve.lock"
        eventually(lambda: len(descendants(popen.pid)) == 2 and lock.exists(), 20, "its children")
        eventually((tmp_path / "ledger.sqlite-wal").exists, 20, "a ledger in use")
        with pytest.raises(subprocess.TimeoutExpired):
            popen.wait(2)
        popen.terminate()
        _, errors = popen.communicate(timeout=15)
        assert popen.returncode == 0
        assert b"Traceback" not in errors


def test_an_unwritable_directory_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal("--data", str(tmp_path / "file" / "data"))
    assert "cannot be written" in refusal("--data", "/proc/batchmill")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_is_one_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o500)
    assert "cannot be written" in refusal("--data", str(data))


def test_a_database_of_a_newer_version_is_one_line(tmp_path: Path) -> None:
    assert run("keys", "create", "--tenant", "a", "--data", str(tmp_path)).returncode == 0
    with sqlite3.connect(tmp_path / "ledger.sqlite") as ledger:
        ledger.execute("UPDATE alembic_version SET version_num = '9999'")
    ledger.close()
    assert "install the newer Batchmill" in refusal("--data", str(tmp_path))


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database at all" * 100)
    assert "is not a SQLite database" in refusal("--data", str(tmp_path))


def test_every_bad_setting_is_a_line_of_its_own(tmp_path: Path) -> None:
    done = run("serve", "--port", "70000", "--engine", "gpu1", BATCHMILL_BEAT="often")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 3
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_open_door_without_a_key_is_refused(tmp_path: Path, host: str) -> None:
    assert "--insecure" in refusal("--data", str(tmp_path), "--host", host)


def test_an_unknown_host_is_one_line(tmp_path: Path) -> None:
    line = refusal("--data", str(tmp_path), "--host", "no-such-host.invalid", "--insecure")
    assert "no-such-host.invalid" in line
    line = refusal("--data", str(tmp_path), "--host", "192.0.2.1", "--insecure")
    assert "no address of this machine" in line


def test_role_api_starts_no_worker(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--role", "api") as serve:
        assert serve.child("api") is not None
        assert serve.child("worker") is None


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    missing = run("keys", "list", *data)
    assert (missing.returncode, missing.stdout) == (2, "")
    made = run("keys", "create", "--tenant", "acme", *data)
    key = made.stdout.strip()
    assert made.returncode == 0
    assert key.startswith("bm_")
    assert len(key) >= 46
    listed = run("keys", "list", *data).stdout
    assert "acme" in listed
    assert key not in listed
    assert "live" in listed
    assert key.encode() not in (tmp_path / "data" / "ledger.sqlite").read_bytes()
    key_id = json.loads(listed)["id"]
    assert run("keys", "revoke", key_id, *data).returncode == 0
    assert "revoked" in run("keys", "list", *data).stdout
    again = run("keys", "revoke", key_id, *data)
    assert again.returncode == 1
    assert "no live key" in again.stderr


def test_a_key_is_needed_once_one_was_made(tmp_path: Path) -> None:
    data = tmp_path / "data"
    key = run("keys", "create", "--tenant", "acme", "--data", str(data)).stdout.strip()
    with serving(data, *SIM) as serve:
        assert serve.http.call("GET", "/v1/files").status == 401
        allowed = serve.http.call("GET", "/v1/files", headers={"authorization": f"Bearer {key}"})
        assert allowed.status == 200


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--bogus"),
        ("serve", "--port", "many"),
        ("keys", "create"),
        ("keys", "create", "--tenant", "a/b"),
        ("keys", "create", "--tenant", ""),
        ("bogus",),
    ],
)
def test_a_wrong_command_line_is_exit_code_2_and_no_traceback(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_another_system_than_linux_is_one_line() -> None:
    code = "import sys; sys.platform = 'darwin'; from batchmill.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.splitlines() == [
        "batchmill: needs Linux, and this is darwin; a container will do"
    ]


def test_version_is_the_package_version() -> None:
    from batchmill import __version__

    assert run("version").stdout.strip() == __version__
