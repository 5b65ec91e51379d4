"""Compare with Vidur on the same requests: python tests/benchmarks/bench_vidur.py [CASE ...].

Installs Vidur (`pip install vidur`) into an environment of its own, once, and runs the cases chat and reasoning of
bench_serving.py on both simulators, each in a process of its own on one core: the same arrivals and lengths, the same
step times, blocks of KV and limits of a batch. Prints requests and tokens a CPU second of each, and the ratio; start-up
(imports, tables of step times) is left out of both. Vidur runs at its fastest: its compiled predictor is used, and its
plots and trace are switched off; clustersim writes all that it writes. Vidur still takes a minute: --requests shortens a
case.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_serving import HERE, ONE_THREAD, measure

VIDUR = "vidur==0.0.26"
#: Each with what is changed in it. Vidur 0.0.26 fails where a sequence is preempted: H200 have room for all.
CASES: dict[str, list[str]] = {
    "chat": [],
    "reasoning": [
        "fleet.0.clusters.0.node=hgx-h200",
        "workload.arrivals={kind: poisson, rate: 0.52 req/s}",
    ],
}
#: Vidur's batch in steps with prefill, and what its tables are made for.
CHUNK, MAX_BATCH, GRANULARITY = 512, 128, 256


def install(env: Path) -> Path:
    """Return the Python of an environment that has Vidur, made where it is not there yet."""
    python = env / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", env], check=True)
    there = subprocess.run([python, "-c", "import vidur"], capture_output=True, check=False)
    if there.returncode:
        print(f"installing {VIDUR} into {env}", file=sys.stderr)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", VIDUR]
        subprocess.run(pip, check=True)
    return python


def settings(name: str, requests: int | None) -> list[str]:
    """Return what a case is changed by: batches as Vidur makes them, and fewer requests if asked for."""
    limits = f"{{kind: chunked_prefill, token_budget: {CHUNK}, max_num_seqs: {MAX_BATCH}}}"
    count = [] if requests is None else [f"workload.num_requests={requests}"]
    return [*CASES[name], f"deployments.0.scheduler={limits}", *count]


def case_of(name: str, changes: list[str], folder: Path) -> tuple[Path, Path]:
    """Write what Vidur needs to know of a case, and its requests; return both files."""
    from clustersim.scenario.load import load
    from clustersim.scenario.plan import plan
    from clustersim.workload.generate import generate

    scenario = load(str(HERE / f"{name}.yaml"), changes)
    (deployment,) = plan(scenario)
    requests = generate(scenario.workloads[0], scenario.seed)
    longest = int((requests.input_tokens + requests.output_tokens).max())
    most = -(-longest // GRANULARITY) * GRANULARITY
    decode = deployment.step_time.decode
    alone = [decode(batch).at(batch) for batch in range(1, MAX_BATCH + 1)]
    with_prefill = [
        deployment.step_time.mixed(0, 0, tokens, tokens * (tokens + 1) // 2, tokens, 1, tokens)
        for tokens in range(MAX_BATCH + 1, CHUNK + MAX_BATCH + 1)
    ]
    case = {
        "num_layers": 32, "replicas": deployment.deployment.replicas, "chunk": CHUNK, "max_batch": MAX_BATCH,
        "num_blocks": deployment.memory.num_blocks, "max_tokens": most, "kv_granularity": GRANULARITY,
        "other_s": alone + with_prefill,
        "decode_s": [
            [max(0.0, decode(batch).at(batch * kv) - alone[batch - 1]) for kv in range(0, most + 1, GRANULARITY)]
            for batch in range(1, MAX_BATCH + 1)
        ],
    }  # fmt: skip
    said, rows = folder / "case.json", folder / "requests.csv"
    said.write_text(json.dumps(case))
    with rows.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("Date", "Time", "PromptTokenCount", "CompletionTokenCount"))
        columns = (requests.arrival_s, requests.input_tokens, requests.output_tokens)
        table.writerows(("day", *row) for row in zip(*(each.tolist() for each in columns), strict=True))
    return said, rows


def vidur(python: Path, name: str, changes: list[str]) -> dict[str, Any]:
    """Return the figures of Vidur's run of a case."""
    with tempfile.TemporaryDirectory() as folder:
        files = case_of(name, changes, Path(folder))
        command: list[str | Path] = [python, HERE / "vidur_peer.py", *files]
        if hasattr(os, "sched_setaffinity"):
            command = ["taskset", "-c", str(max(os.sched_getaffinity(0))), *command]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **ONE_THREAD, "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"},
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def line(name: str, figures: dict[str, Any]) -> str:
    """Return one simulator's run as a line."""
    cpu_s = figures["cpu_s"]
    return (
        f"  {name:<11}{figures['requests'] / cpu_s:>10,.0f} requests and {figures['tokens'] / cpu_s / 1e6:>9,.2f} M tokens"
        f" a CPU s   {cpu_s:>8.2f} CPU s   peak {figures['peak_mb']:>6,.0f} MB   mean latency {figures['mean_e2el_s']:.2f} s"
    )


def main() -> None:
    """Print both simulators' figures for each case, and the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all")
    parser.add_argument("--requests", type=int, help="instead of the case's own number")
    parser.add_argument("--env", type=Path, default=Path("build/vidur"), help="its environment: %(default)s")
    given = parser.parse_args()
    wanted = given.cases or list(CASES)
    for name in wanted:
        if name not in CASES:
            parser.error(f'there is no case "{name}"; choose of {", ".join(CASES)}')
    python = install(given.env.resolve())
    for name in wanted:
        changes = settings(name, given.requests)
        ours = measure(name, 1, *changes)
        print(f"{name}: {ours['requests']:,} requests\n{line('clustersim', ours)}", flush=True)
        theirs = vidur(python, name, changes)
        ratio = theirs["cpu_s"] / ours["cpu_s"]
        print(
            f"{line('Vidur', theirs)}\n  clustersim does {ratio:,.0f} times as many requests a CPU second",
            flush=True,
        )


if __name__ == "__main__":
    main()
