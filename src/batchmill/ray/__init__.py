"""Workers on a Ray cluster that exists already: one actor each, as many as the backlog asks for.

    python -m batchmill.ray --config batchmill.toml --max-workers 8

A worker is the same as that of `batchmill worker`; Ray only says where it runs. Actors may go at
any moment, alone or with their node: what they held is taken over within the lease time. They live
as long as the program that started them. Secrets travel as arguments of the actor and nowhere
else. Needs the extra `[ray]`, and Batchmill installed on every node.

`scaling.py` says how many there should be, `crew.py` keeps as many, `actor.py` is what each does.
"""

from __future__ import annotations

from batchmill.ray.crew import serve_workers
from batchmill.ray.scaling import Bounds

__all__ = ["Bounds", "serve_workers"]
