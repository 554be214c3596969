"""The housekeeper process: a worker without engines, beside an API that has no other.

It validates, expires, settles, finalizes, prunes, sweeps and delivers, apart from the API's event
loop: validating a large file is no reason for a request to wait.
"""

from __future__ import annotations

import uvloop

from batchmill.app.orders import Orders
from batchmill.app.worker import collect_seldom, run_worker
from batchmill.telemetry import configure_logs

if __name__ == "__main__":
    configure_logs("housekeeper")
    collect_seldom()
    uvloop.run(run_worker(Orders.read(), sends=False))
