"""Runs operations of OpenAI's Python SDK against a server; any release from 1.30 to 3.x.

Started with the SDK's own interpreter. Standard input is one JSON object: `url`, `key`,
`stranger_key` (another tenant), `crowded_key` (a tenant with 250 batches), `model` and
`operations`. Each operation is answered by one JSON line on standard output.
"""

from __future__ import annotations

import json
import sys

from openai_python import (  # noqa: F401 - each import registers its operations
    batches,
    files,
    listing,
    models,
    refusals,
)
from openai_python.harness import World
from operations import report

if __name__ == "__main__":
    where = json.load(sys.stdin)
    report(World(where), where["operations"])
