"""The ledger: the one place of truth for state, over SQL. Its port is `batchmill.ports.Ledger`."""

from batchmill.ledger.sql_ledger import SqlLedger

__all__ = ["SqlLedger"]
