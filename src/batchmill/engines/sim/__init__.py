"""A simulator of an inference engine, for dry runs, tests and benchmarks.

It runs in a process of its own (`python -m batchmill.engines.sim --port 0 --spec latency=50ms`)
and serves every endpoint that Batchmill knows over HTTP/1.1. Answers follow from the request
alone and are marked as simulated. What it answers is pure (`answers`, `faults`, `prefixes`,
`batching`, `engine`); `server` owns the sockets.

A text in a request may ask for a fault of its own: `!fault:500`, `!fault:reset`, `!fault:hang`,
`!fault:big=1000000`, `!status:422` (see `faults.py`). Calls are counted by the first `id:NAME`
in their body. While it runs:

    POST /sim/control   a JSON object of settings to change, see `settings.py`
    GET  /sim/calls     how many calls came, by id, and how many were in flight at once
    POST /sim/reset     forget the counts
"""
