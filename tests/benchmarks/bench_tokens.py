"""What a request costs to simulate, at short and at long outputs: python tests/benchmarks/bench_tokens.py.

A closed loop of as many users asks as many questions at 256 and at 8,192 output tokens, so that only the number of
tokens differs. Long requests take a few more runs each, because fewer of them end in the same step; what matters is
that the cost does not grow on with tokens. CPU seconds are the whole process's around `simulate`, workload generation
and metrics included; the first run of each, which also tabulates step times, is shown apart.
"""

from __future__ import annotations

import argparse
import time

from clustersim.scenario.schema import Scenario
from clustersim.simulation import simulate

OUTPUTS = (256, 8192)
WIDTHS = (8, 11, 8, 12, 14, 16, 15)


def scenario(output: int, requests: int, users: int) -> Scenario:
    """Return `requests` questions of 512 tokens from `users` users to one replica of Qwen3-8B on an H100."""
    lengths = {
        "kind": "output_with_thinking_share",
        "input": {"kind": "uniform", "low": 256, "high": 768},
        "output": {"kind": "uniform", "low": output // 2, "high": output * 3 // 2},
        "thinking_share": 0.8,
    }
    return Scenario.model_validate(
        {
            "name": f"{output} output tokens",
            "warm_up": "none",
            "fleet": [{"site": "us-iowa", "clusters": [{"name": "pool", "node": "hgx-h100"}]}],
            "deployments": [{"name": "serve", "model": "qwen3-8b", "on": "pool", "replicas": 4}],
            "workloads": [
                {
                    "arrivals": {"kind": "closed_loop", "concurrency": users},
                    "lengths": lengths,
                    "num_requests": requests,
                }
            ],
        }
    )


def measure(output: int, requests: int, users: int, repeats: int) -> tuple[float, float, int, float]:
    """Return the CPU seconds of the first run, the least of the others, tokens, and runs a request."""
    what = scenario(output, requests, users)
    seconds, tokens, runs = [], 0, 0.0
    for seed in range(repeats + 1):
        started = time.process_time()
        result = simulate(what, seed)
        seconds.append(time.process_time() - started)
        tokens = result["total_input"] + result["total_output"]
        runs = sum(len(served.runs["start_s"]) for served in result.served) / requests
        assert result["completed"] == requests
    return seconds[0], min(seconds[1:]), tokens, runs


def main() -> None:
    """Print one row an output length, and the ratio of the cost of a request."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--users", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    repeats = given.repeats
    print(
        f"{given.requests:,} requests, closed loop of {given.users} users, 4 replicas, best of {repeats} repeats"
    )
    heads = ("output", "first run", "CPU s", "us/request", "runs/request", "requests/CPU s", "tokens/CPU s")
    print("".join(f"{head:>{width}}" for head, width in zip(heads, WIDTHS, strict=True)))
    costs = []
    for output in OUTPUTS:
        first, best, tokens, runs = measure(output, given.requests, given.users, repeats)
        costs.append(best / given.requests)
        cells = (
            f"{output:,}", f"{first:.2f}", f"{best:.2f}", f"{costs[-1] * 1e6:.1f}", f"{runs:.2f}",
            f"{given.requests / best:,.0f}", f"{tokens / best:,.0f}",
        )  # fmt: skip
        print("".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True)))
    print(
        f"a request of {OUTPUTS[1]:,} output tokens costs {costs[1] / costs[0]:.2f} times one of {OUTPUTS[0]:,}"
    )


if __name__ == "__main__":
    main()
