"""`python -m batchmill.engines.sim --port 0 --spec latency=50ms,batch=64` runs the simulator.

Prints one line, `ready http://127.0.0.1:PORT/v1`, once it accepts connections.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

import uvloop

from batchmill.engines.sim.server import Simulator
from batchmill.engines.sim.settings import BadSetting, Settings, parse_spec


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="batchmill.engines.sim", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--spec", "--options", default="", help="name=value,...")
    arguments = parser.parse_args()
    try:
        settings = parse_spec(arguments.spec)
    except BadSetting as error:
        sys.exit(f"sim: {error}")
    try:
        uvloop.run(_serve(settings, arguments.host, arguments.port))
    except OSError as error:
        sys.exit(f"sim: cannot listen on {arguments.host}:{arguments.port}: {error.strerror}")


async def _serve(settings: Settings, host: str, port: int) -> None:
    simulator = Simulator(settings, host)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await simulator.listen(port)
    print(f"ready {simulator.url}", flush=True)  # noqa: T201 - whoever started it waits for it
    await stop.wait()
    await simulator.close()


if __name__ == "__main__":
    main()
