"""How many requests and simulated tokens a CPU second simulates: python tests/benchmarks/bench_serving.py [CASE ...].

Each case is a scenario file beside this one, and does what `clustersim run` does: requests are generated, simulated and
summed up, and the whole result folder is written (tables, report, trace), to a temporary folder. It runs in a process of
its own, on one core. CPU seconds are the whole process's, all its threads; start-up, which is imports and the same
scenario run once with a few requests (it reads the profiles and tabulates step times), is shown apart. With --repeats the
run with the fewest CPU seconds counts.

Cases: chat, reasoning, fleet, day; and two ratios of the cost of a request: `lengths`, at 8,192 output tokens over at 256,
and `numbers`, of a million requests over a thousand of the chat case. Linux and macOS; a core is chosen on Linux alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WARM_REQUESTS = 200
MAX_RATIO = 1.5
#: Libraries start no threads beside the one core.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
PARTS = ("generation", "engine", "results", "writing")


@dataclass(frozen=True)
class Target:
    """What a case should reach: at least so many requests or tokens a CPU second, at most so many seconds or MB."""

    requests_per_s: float = 0.0
    tokens_per_s: float = 0.0
    cpu_s: float = float("inf")
    peak_mb: float = float("inf")

    def words(self) -> str:
        """Return the target in words."""
        said = []
        if self.requests_per_s:
            said.append(f"at least {self.requests_per_s:,.0f} requests")
        if self.tokens_per_s:
            said.append(f"{self.tokens_per_s / 1e6:,.0f} M tokens a CPU s")
        if self.cpu_s < float("inf"):
            said.append(f"under {self.cpu_s:g} CPU s")
        if self.peak_mb < float("inf"):
            said.append(f"{self.peak_mb / 1000:g} GB")
        return ", ".join(said)

    def met(self, figures: dict[str, Any]) -> bool:
        """Return whether the figures of a run reach it."""
        cpu_s = figures["cpu_s"]
        return (
            figures["requests"] / cpu_s >= self.requests_per_s
            and figures["tokens"] / cpu_s >= self.tokens_per_s
            and cpu_s <= self.cpu_s
            and figures["peak_mb"] <= self.peak_mb
        )


TARGETS = {
    "chat": Target(requests_per_s=20_000),
    "reasoning": Target(requests_per_s=20_000, tokens_per_s=160e6),
    "fleet": Target(cpu_s=8, peak_mb=1000),
    "day": Target(cpu_s=120, peak_mb=4000),
}
RATIOS = ("lengths", "numbers")
LENGTHS = (256, 8192)
NUMBERS = (1_000, 30_000, 1_000_000)


def run(scenario: str, settings: list[str]) -> dict[str, Any]:
    """Return the figures of one run of a scenario file in this process, which has imported nothing yet."""
    started = time.process_time()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    from clustersim.scenario.load import load
    from clustersim.workload.generate import generate

    path = str(HERE / f"{scenario}.yaml")
    imported = time.process_time()
    _whole(load(path, [*settings, f"workload.num_requests={WARM_REQUESTS}"]))
    what = load(path, settings)
    warm, wall = time.process_time(), time.perf_counter()
    figures, result = _whole(what)
    seconds, wall_s = time.process_time() - warm, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    again = time.process_time()  # generation alone, once more: it hides in the engine's seconds
    for workload in what.workloads:
        generate(workload, what.seed, what.horizon_s)
    figures["generation_s"] = time.process_time() - again
    figures["engine_s"] -= figures["generation_s"]
    figures["tables_s"] = _tables_alone(result)
    return {
        **figures, "cpu_s": seconds, "wall_s": wall_s, "peak_mb": peak, "import_s": imported - started,
        "start_up_s": warm,
    }  # fmt: skip


def _whole(scenario: Any) -> tuple[dict[str, Any], Any]:
    """Simulate and write a scenario; return what it took, part by part, and the result."""
    from clustersim.report.folder import write
    from clustersim.simulation import simulate

    started = time.process_time()
    result = simulate(scenario)
    simulated = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        files = write(result, Path(folder) / "out")
        size = sum(file.stat().st_size for file in files)
    written = time.process_time()
    metrics = result.metrics
    made = sum(
        view.runs["num_steps"] @ view.runs["batch"] + view.runs["num_first_tokens"].sum()
        for view in result.served
    )
    read = sum(view.runs["prefill_tokens"].sum() for view in result.served)
    figures = {
        "requests": len(result.requests), "tokens": int(made + read), "output_tokens": int(made),
        "runs": sum(len(view.runs["start_s"]) for view in result.served),
        "utilisation": metrics.get("utilisation"), "mean_batch": metrics.get("mean_batch"),
        "mean_e2el_s": (metrics["mean_e2el_ms"] or float("nan")) / 1e3,
        "engine_s": metrics["cpu_s"], "results_s": simulated - started - metrics["cpu_s"],
        "writing_s": written - simulated, "written_mb": size / 1e6,
    }  # fmt: skip
    return figures, result


def _tables_alone(result: Any) -> float:
    """Return the CPU seconds of writing a result without its report and its trace."""
    from clustersim.report.folder import write

    outputs = result.scenario.outputs.model_copy(update={"report": False, "trace": False})
    less = replace(result, scenario=result.scenario.model_copy(update={"outputs": outputs}))
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        write(less, Path(folder) / "out")
    return time.process_time() - started


def measure(scenario: str, repeats: int, *settings: str) -> dict[str, Any]:
    """Return the figures of the run with the fewest CPU seconds of `repeats`, each in a process of its own."""
    command = [sys.executable, str(HERE / "bench_serving.py"), "--run", scenario, *settings]
    every = []
    for _ in range(repeats):
        done = subprocess.run(
            command, env={**os.environ, **ONE_THREAD}, check=True, stdout=subprocess.PIPE, text=True
        )
        every.append(json.loads(done.stdout.splitlines()[-1]))
    return min(every, key=lambda figures: float(figures["cpu_s"]))


HEADS = (
    "",
    "requests",
    "requests/CPU s",
    "M tokens/CPU s",
    "CPU s",
    *PARTS,
    "start-up",
    "wall s",
    "peak MB",
    "runs/req",
)
WIDTHS = (10, 10, 15, 15, 9, 11, 9, 9, 9, 9, 8, 8, 9)


def line(cells: tuple[str, ...]) -> str:
    """Return cells as a line of the table."""
    first, *others = (f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))
    return f"{first.strip():<{WIDTHS[0]}}" + "".join(others)


def row(name: str, figures: dict[str, Any]) -> str:
    """Return one run as a line of the table."""
    cpu_s = figures["cpu_s"]
    return line(
        (
            name, f"{figures['requests']:,}", f"{figures['requests'] / cpu_s:,.0f}",
            f"{figures['tokens'] / cpu_s / 1e6:,.1f}", f"{cpu_s:.3f}",
            *(f"{figures[f'{part}_s']:.3f}" for part in PARTS),
            f"{figures['start_up_s']:.2f}", f"{figures['wall_s']:.2f}", f"{figures['peak_mb']:,.0f}",
            f"{figures['runs'] / figures['requests']:.2f}",
        )
    )  # fmt: skip


def case(name: str, repeats: int) -> bool:
    """Print one case and its target; return whether it was met."""
    figures = measure(name, repeats)
    print(row(name, figures))
    met = TARGETS[name].met(figures)
    tables = figures["requests"] / (figures["cpu_s"] - figures["writing_s"] + figures["tables_s"])
    without = f"{tables:,.0f} requests a CPU s without report.html and trace.json"
    print(f"{'':<10}{'met' if met else 'MISSED'}: {TARGETS[name].words()}; {without}", flush=True)
    return met


def ratio(name: str, repeats: int) -> bool:
    """Print one ratio of costs and its target; return whether it was met."""
    costs = []
    if name == "lengths":
        for output in LENGTHS:
            low, high = output // 2, output * 3 // 2
            drawn = f"workload.lengths.output={{kind: uniform, low: {low}, high: {high}}}"
            figures = measure("lengths", repeats, drawn)
            print(row(f"{output:,} out", figures), flush=True)
            costs.append(figures["cpu_s"] / figures["requests"])
        what = "a request of 8,192 output tokens costs {:.2f} times one of 256"
    else:
        for number in NUMBERS:
            figures = measure("chat", repeats if number < 100_000 else 1, f"workload.num_requests={number}")
            print(row("chat", figures), flush=True)
            costs.append(figures["cpu_s"] / figures["requests"])
        what = f"a request among a million costs {{:.2f}} times one among a thousand, {costs[-1] / costs[1]:.2f} times one among 30,000"
    met = costs[-1] / costs[0] <= MAX_RATIO
    print(
        f"{'':<10}{'met' if met else 'MISSED'}: {what.format(costs[-1] / costs[0])} (at most {MAX_RATIO})",
        flush=True,
    )
    return met


def main() -> None:
    """Print a row a case with its target, and the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join([*TARGETS, *RATIOS])}; all")
    parser.add_argument(
        "--repeats", type=int, default=3, help="of each but the longest (fleet, day): %(default)s"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a target is missed")
    parser.add_argument("--run", nargs="+", metavar="ARG", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        print(json.dumps(run(given.run[0], given.run[1:])))
        return
    wanted = given.cases or [*TARGETS, *RATIOS]
    for name in wanted:
        if name not in (*TARGETS, *RATIOS):
            parser.error(f'there is no case "{name}"; choose of {", ".join([*TARGETS, *RATIOS])}')
    print(line(HEADS))
    met = [
        ratio(name, given.repeats) if name in RATIOS
        else case(name, 1 if name in ("fleet", "day") else given.repeats)
        for name in wanted
    ]  # fmt: skip
    sys.exit(1 if given.strict and not all(met) else 0)


if __name__ == "__main__":
    main()
