"""Runs operations of Mistral's Python SDK against a server; any release from 1.2 to 3.x.

Started with the SDK's own interpreter. Standard input is one JSON object: `url`, `key`,
`colleague_key` (same tenant), `stranger_key` (another tenant), `model` and
`operations`. Each operation is answered by one JSON line on standard output.
"""

from __future__ import annotations

import json
import sys

from mistral_python import (  # noqa: F401 - each import registers its operations
    addresses,
    batch_client,
    endpoints,
    files,
    jobs,
    listing,
    models,
    refusals,
)
from mistral_python.harness import World
from operations import report

if __name__ == "__main__":
    where = json.load(sys.stdin)
    report(World(where), where["operations"])
