"""A real all-reduce and a real two-stage pipeline between two nodes, run as a Ray job; prints one JSON line.

Arguments: bytes of the all-reduce, then "bytes x micro-batches" of each pipeline.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

from calibrate.cluster.nodes import nodes_of
from calibrate.cluster.ranks import Rank, gather

SIDE, TIMES, RUNS = 1200, 8, 5


class Stage(Rank):
    """One stage, on one node."""

    def all_reduce(self, size: int, times: int) -> list[float]:
        import torch
        import torch.distributed as dist

        data, seconds = torch.zeros(size // 4), []
        for _ in range(times + 1):
            dist.barrier()
            began = time.perf_counter()
            dist.all_reduce(data)
            seconds.append(time.perf_counter() - began)
        return seconds[1:]

    def compute(self, times: int) -> list[float]:
        """Seconds of the stage's own work, tens of milliseconds, both stages at it.

        So long that what a message costs a stage's own core (0.2 to 0.7 ms in these runs) is little beside it.
        """
        import torch
        import torch.distributed as dist

        self.x = torch.ones(SIDE, SIDE)
        seconds = []
        dist.barrier()
        for _ in range(times + 3):
            began = time.perf_counter()
            self.x @ self.x
            seconds.append(time.perf_counter() - began)
        return seconds[3:]

    def pipeline(self, size: int, micro_batches: int) -> float:
        """Forward only: compute, send activations; receive, compute. Seconds from the barrier to this stage's end."""
        import torch
        import torch.distributed as dist

        data = [torch.zeros(size, dtype=torch.uint8) for _ in range(micro_batches)]
        if self.rank == 1:
            works = [dist.irecv(each, 0) for each in data]
        dist.barrier()
        began = time.perf_counter()
        if self.rank == 0:
            works = []
            for each in data:
                self.x @ self.x
                works.append(dist.isend(each, 1))
            for work in works:
                work.wait()
        else:
            for work in works:
                work.wait()
                self.x @ self.x
        return time.perf_counter() - began


def main() -> None:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.init("auto", log_to_driver=False)
    size, shapes = int(sys.argv[1]), [tuple(map(int, text.split("x"))) for text in sys.argv[2:]]
    stages: list[Any] = []
    for node in nodes_of(ray.nodes())[:2]:
        where = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
        stages.append(ray.remote(Stage).options(num_cpus=1, scheduling_strategy=where).remote(node.name, {}))

    def both(method: str, *arguments: Any) -> list[Any]:
        refs = {getattr(stage, method).remote(*arguments): str(k) for k, stage in enumerate(stages)}
        found = gather(refs, 120.0)
        return [found[str(k)] for k in range(2)]

    place = gather({stages[0].rendezvous.remote(2, 60.0): "0"}, 60.0)["0"]
    gather({stage.join.remote(k, 2, place, [], 60.0): str(k) for k, stage in enumerate(stages)}, 90.0)
    reduced = both("all_reduce", size, 3)
    pipelines = []
    for activation, micro_batches in shapes:
        runs, before = [], both("compute", TIMES)
        for _ in range(RUNS):
            seconds = max(both("pipeline", activation, micro_batches))
            after = both("compute", TIMES)
            # The sum of many computations is their mean's, and the host's speed changes: measured around each run.
            compute_s = [statistics.fmean(one + two) for one, two in zip(before, after, strict=True)]
            runs.append({"seconds": seconds, "compute_s": compute_s})
            before = after
        pipelines.append({"bytes": activation, "micro_batches": micro_batches, "runs": runs})
    print(
        json.dumps({"all_reduce": [max(pair) for pair in zip(*reduced, strict=True)], "pipelines": pipelines})
    )


if __name__ == "__main__":
    main()
