"""Batchmill measured beside nginx and wrk on one machine. `python -m bench` runs it."""
