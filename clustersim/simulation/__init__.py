"""Run a scenario: requests and tasks arrive, routers place them, replicas serve them, on one simulated clock."""

from __future__ import annotations

import time

from clustersim.results.result import Result, summarise
from clustersim.scenario.plan import plan
from clustersim.scenario.schema import Scenario
from clustersim.simulation.world import Progress, World

__all__ = ["Progress", "simulate"]


def simulate(scenario: Scenario, seed: int | None = None, progress: Progress | None = None) -> Result:
    """Return the result of one run of `scenario`; `seed` overrides the scenario's own.

    Raises InputError if the scenario cannot run (a model that does not fit, a trace that cannot be read).
    """
    seed = scenario.seed if seed is None else seed
    plans = plan(scenario)
    started = time.process_time()
    world = World(scenario, seed, plans, progress)
    world.run()
    return summarise(
        scenario,
        seed,
        plans,
        world.records,
        world.tasks,
        world.runs.columns(),
        world.first_replica,
        time.process_time() - started,
        transfers=world.transfers,
        spans=world.spans,
        kv_loads=world.kv_loads,
        kv_stored={front.plan.index: front.offload.stored_bytes for front in world.fronts if front.offload},
    )
