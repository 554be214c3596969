"""Decides: how jobs are made, validated, dispatched, retried and ended. I/O goes through ports."""
