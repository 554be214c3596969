"""What the fleet stands on: SQLite and local files, or PostgreSQL and an S3 server, both real, with
a proxy before each, so that they can be away, cut off and slow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests import postgres
from tests.chaos.schedule import Outage
from tests.proxy import Proxy
from tests.s3 import S3Server

AWAY_SECONDS = 10.0
RESTART_SECONDS = 1.0
SLOW_SECONDS = 5.0
DELAY_SECONDS = 0.1


@dataclass
class Stores:
    """Where state and bytes live, and how processes are told of it."""

    name: str
    data: Path
    group_seconds: float
    """For how long outcomes gather at the most."""
    environment: dict[str, str] = field(default_factory=dict)

    def suffer(self, outage: Outage) -> None:
        """Nothing: a file on this machine does not go away."""


@dataclass
class ServerStores(Stores):
    """The same over servers, each behind a proxy."""

    database: postgres.Server = field(default_factory=postgres.Server)
    to_database: Proxy | None = None
    to_store: Proxy | None = None

    def suffer(self, outage: Outage) -> None:
        """Let it happen; returns when it is over."""
        assert self.to_database is not None
        assert self.to_store is not None
        match outage:
            case Outage.DATABASE_RESTARTS:
                self.database.stop()
                time.sleep(RESTART_SECONDS)
                self.database.start()
            case Outage.STORE_IS_AWAY:
                self.to_store.refuse()
                time.sleep(AWAY_SECONDS)
                self.to_store.resume()
            case Outage.DATABASE_IS_CUT:
                self.to_database.reset()
                self.to_database.rules.delay_seconds = DELAY_SECONDS
                time.sleep(SLOW_SECONDS)
                self.to_database.rules.delay_seconds = 0.0
                self.to_database.reset()


@contextmanager
def on_files(folder: Path) -> Iterator[Stores]:
    """SQLite and local files."""
    yield Stores("SQLite and local files", folder / "data", group_seconds=0.25)


@contextmanager
def on_servers(folder: Path) -> Iterator[Stores]:
    """PostgreSQL and S3, for the length of the block."""
    with postgres.serving() as database, database.database(movable=False) as (name, _):
        s3 = S3Server()
        s3.start()
        to_database = Proxy(("127.0.0.1", database.port))
        to_store = Proxy(("127.0.0.1", s3.port))
        bucket = s3.bucket()
        bucket.port = to_store.port
        url = database.url(name).replace(f":{database.port}/", f":{to_database.port}/")
        try:
            yield ServerStores(
                "PostgreSQL and S3",
                folder / "data",
                group_seconds=2.0,
                environment={**bucket.environment, "BATCHMILL_DATABASE_URL": url},
                database=database,
                to_database=to_database,
                to_store=to_store,
            )
        finally:
            to_database.close()
            to_store.close()
            s3.stop()
