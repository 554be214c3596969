"""The machine of `test_ledger_machine.py` over PostgreSQL, in a short form. Its clock is the
server's, which has no boots and is not set back here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from batchmill.clock import ManualClock
from tests.crash.test_ledger_machine import LedgerMachine
from tests.postgres import Server, postgres_server

__all__ = ["postgres_server"]

SHORT = settings(
    max_examples=8,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class PostgresMachine(LedgerMachine):
    """Everything that may happen to a ledger on PostgreSQL."""

    server: ClassVar[Server]

    def make_database(self) -> ManualClock:
        self.stack = ExitStack()
        name, clock = self.stack.enter_context(self.server.database())
        self.path = self.server.url(name)
        self.connection = self.run(asyncpg.connect(self.path))
        return clock

    def remove_database(self) -> None:
        self.run(self.connection.close())
        self.stack.close()

    def ask(self, statement: str) -> Sequence[Any]:
        return self.run(self.connection.fetch(statement))

    @rule(change=st.sampled_from(["expire", "reopen"]))
    def the_world_changes(self, change: str) -> None:
        if change == "reopen":
            self.run(self.ledger.close_connections())
            self.open()
        else:
            self.run(self.ledger.expire_jobs())


@pytest.fixture
def server(postgres_server: Server) -> Iterator[Server]:
    PostgresMachine.server = postgres_server
    yield postgres_server
    del PostgresMachine.server


@pytest.mark.timeout(400)
def test_the_ledger_keeps_its_promises_on_postgresql(server: Server) -> None:
    run_state_machine_as_test(PostgresMachine, settings=SHORT)
