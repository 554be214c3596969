"""Chaos: a fleet at work while its processes are killed, frozen and stopped, and its servers go.

    python -m tests.chaos          (or `make chaos`; `--help` says what can be chosen)

What happens is drawn from a seed (`schedule.py`), done to real processes (`crew.py`) over real
stores (`stores.py`), and judged at the end (`verdict.py`). The story is `run.py`.
"""
