"""CPU time of a transfer between two of 64 nodes, by how many are under way: python tests/benchmarks/bench_flows.py.

Sizes are exponential with a mean of 50 MB, arrivals Poisson; a node of eight NDR ports has 284 GB/s each way.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from simpy import Environment

from clustersim.hardware.link import load_link
from clustersim.hardware.site import load_site
from clustersim.network.flows import Flows
from clustersim.network.interconnect import Interconnect
from clustersim.network.place import Place, Share
from clustersim.scenario.schema import Cluster

NODES, MEAN_BYTES = 64, 50e6


def run(count: int, busy_nodes: float, seed: int = 0, oversubscription: float = 1.0) -> str:
    """Return a row of the table: `busy_nodes` of 64 could carry the load if it came evenly."""
    env, rng = Environment(), np.random.default_rng(seed)
    flows = Flows(env)
    network = {"kind": "rail_optimised", "oversubscription": oversubscription}
    cluster = Cluster.model_validate({"name": "pool", "node": "hgx-h100", "count": NODES, "network": network})
    inter = Interconnect(flows, [(cluster, load_site("us-iowa"))], load_link("wan-400g"))
    places = [Place("pool", (Share(node, tuple(range(8))),)) for node in range(NODES)]
    pairs = [rng.choice(NODES, 2, replace=False).tolist() for _ in range(count)]
    sizes = rng.exponential(MEAN_BYTES, count).tolist()
    rate = busy_nodes * 284e9 / MEAN_BYTES
    gaps = rng.exponential(1 / rate, count).tolist()
    under_way, seen, ended = 0, 0, 0

    def done(now: float) -> None:
        nonlocal under_way, ended
        under_way -= 1
        ended += 1

    def arrive():
        nonlocal under_way, seen
        for (source, target), size, gap in zip(pairs, sizes, gaps, strict=True):
            yield env.timeout(gap)
            seen += under_way
            under_way += 1
            flows.start(inter.path(places[source], places[target]), size, done)

    env.process(arrive())
    begin = time.process_time()
    env.run()
    seconds = time.process_time() - begin
    flows.check()
    assert ended == count
    return (
        f"{busy_nodes / NODES:8.0%} {oversubscription:16g} {seen / count:14.1f} {seconds / count * 1e6:18.1f}"
    )


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print(f"{number} transfers\n    load oversubscription mean under way CPU us a transfer")
    for busy in (4, 8, 16, 24, 32):
        print(run(number, busy))
    print(run(number, 16, oversubscription=2.0))
