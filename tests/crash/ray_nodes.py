"""Two Ray nodes on one machine with a worker on each, in a process of its own: Ray warns, starts
servers and hooks into whatever imports it.

    python tests/crash/ray_nodes.py CONFIG

Takes one order a line: `kill` ends the second node with kill -9; the end of the input ends all.
"""

from __future__ import annotations

import asyncio
import json
import sys

import ray
from ray.cluster_utils import Cluster

from batchmill.config import load
from batchmill.ray import Bounds, serve_workers
from batchmill.telemetry import configure_logs

STORE_BYTES = 80 * 1024 * 1024


def two_nodes() -> Cluster:
    """Two nodes with room for one worker each, on loopback. This process belongs to the first."""
    small = {
        "num_cpus": 1,
        "node_ip_address": "127.0.0.1",
        "object_store_memory": STORE_BYTES,
        "include_dashboard": False,
    }
    cluster = Cluster(initialize_head=True, head_node_args=small)
    cluster.add_node(**small)
    ray.init(address=cluster.address, log_to_driver=False)
    return cluster


async def run(cluster: Cluster) -> None:
    stop = asyncio.Event()
    settings = load({"config": sys.argv[1]})
    bounds = Bounds(min_workers=2, max_workers=2)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve_workers(settings, bounds, stop))
        nodes = [pid_of(node) for node in cluster.list_all_nodes()]
        print(json.dumps({"nodes": nodes}), flush=True)
        while order := await asyncio.to_thread(sys.stdin.readline):
            if order.strip() == "kill":
                node = next(iter(cluster.worker_nodes))
                pid = pid_of(node)
                await asyncio.to_thread(cluster.remove_node, node, allow_graceful=False)
                print(json.dumps({"killed": pid}), flush=True)
        stop.set()


def pid_of(node: object) -> int:
    """The pid of the raylet, whose children are the node's actors."""
    return node.all_processes["raylet"][0].process.pid


def main() -> None:
    configure_logs("ray")
    cluster = two_nodes()
    try:
        asyncio.run(run(cluster))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
