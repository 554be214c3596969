"""Numbered migrations, forward only; `ledger/upgrade.py` runs them."""
