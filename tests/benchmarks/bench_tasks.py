"""What a generation of a task costs to simulate: python tests/benchmarks/bench_tasks.py.

Tasks of best-of-32 over a shared prompt of 2,048 tokens, 320,000 generations in all, on 16 replicas that keep up with
them: 32 samples fork from one prompt, the first that is accepted ends the task, and the others are cancelled. CPU seconds
are the whole process's around `simulate`, workload generation and metrics included.
"""

from __future__ import annotations

import argparse
import time

from clustersim.scenario.schema import Scenario
from clustersim.simulation import simulate

SAMPLES = 32


def scenario(tasks: int) -> Scenario:
    """Return `tasks` tasks for 16 replicas of Llama-3.1-8B, each on an H100."""
    return Scenario.model_validate(
        {
            "name": f"best of {SAMPLES}",
            "warm_up": "none",
            "fleet": [{"site": "us-iowa", "clusters": [{"name": "pool", "node": "hgx-h100", "count": 2}]}],
            "deployments": [{"name": "serve", "model": "llama-3.1-8b", "on": "pool", "replicas": 16}],
            "workloads": [
                {
                    "arrivals": {"kind": "poisson", "rate": "8 req/s"},
                    "lengths": {"kind": "fixed", "input": 2048, "thinking": 2000, "answer": 200},
                    "tasks": {"strategy": {"kind": "best_of_n", "n": SAMPLES}, "accuracy": 0.3},
                    "num_requests": tasks,
                }
            ],
        }
    )


def main() -> None:
    """Print CPU seconds of the whole run, and what that is a generation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=10_000)
    given = parser.parse_args()
    what = scenario(given.tasks)
    started = time.process_time()
    result = simulate(what)
    seconds = time.process_time() - started
    generations = len(result.requests)
    assert generations == SAMPLES * given.tasks
    assert result["tasks_ended"] == given.tasks
    cancelled = (result.requests["status"] == "cancelled").mean()
    print(f"{given.tasks:,} tasks, {generations:,} generations, {cancelled:.0%} of them cancelled")
    print(
        f"{seconds:.1f} CPU s: {seconds / generations * 1e6:.1f} us a generation, {generations / seconds:,.0f} a CPU s"
    )


if __name__ == "__main__":
    main()
