"""Predict rows of a table of measured serving results, and say how far off the predictions are.

    python tests/validation/predict.py serving.csv [--engine vllm] [--every] [--out errors.csv]

A row (see `Row`) becomes a Scenario and is simulated; its metric is compared with what was measured, beside a
trivial baseline: the roofline of every operator summed, times one constant that is chosen on the same rows.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from clustersim.cost.profile import folder
from clustersim.errors import InputError
from clustersim.hardware.node import load_node
from clustersim.models.ops import COLLECTIVES
from clustersim.models.step import StepShape
from clustersim.scenario.plan import DeploymentPlan, plan
from clustersim.scenario.schema import Scenario
from clustersim.simulation import simulate

Row = Mapping[str, Any]
#: Columns that tell runs apart.
_RUN = [
    "source",
    "engine",
    "engine_version",
    "gpu",
    "model",
    "precision",
    "tp",
    "pp",
    "ep",
    "dp",
    "isl",
    "osl",
    "load_value",
]

NODES = {
    "A100-PCIE-80GB": "a100-pcie-8", "A100-SXM-80GB": "hgx-a100", "H100-SXM-80GB": "hgx-h100", "H200-SXM-141GB": "hgx-h200",
    "B200-180GB": "hgx-b200", "GB200-192GB": "gb200-nvl72", "GB300-288GB": "gb300-nvl72", "L40S-48GB": "l40s-8",
    "RTX4090-24GB": "rtx-4090-4", "RTX6000-PRO-96GB": "rtx-pro-6000-8", "RTX6000-PRO-SE-96GB": "rtx-pro-6000-8",
}  # fmt: skip
MODELS = {
    "DeepSeek-R1-0528": "deepseek-r1", "DeepSeek-R1-NVFP4": "deepseek-r1", "DeepSeek-V3": "deepseek-v3",
    "DeepSeek-V3.1-NVFP4": "deepseek-v3", "Kimi-K2.5": "kimi-k2", "Llama-2-13B": "llama-2-13b", "Llama-2-70B": "llama-2-70b",
    "Llama-2-7B": "llama-2-7b", "Llama-3-70B": "llama-3.1-70b", "Llama-3.1-405B": "llama-3.1-405b",
    "Llama-3.1-70B": "llama-3.1-70b", "Llama-3.1-8B": "llama-3.1-8b", "Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "Llama-3.1-8B-Instruct-FP8": "llama-3.1-8b", "Llama-3.3-70B": "llama-3.1-70b",
    "Llama-3.3-70B (labelled Llama-3.1-70B in source)": "llama-3.1-70b", "Llama-4-Maverick-17B-128E": "llama-4-maverick",
    "Llama-4-Scout-17B-16E": "llama-4-scout", "MiniMax-M2.5": "minimax-m2.5", "Mixtral-8x7B": "mixtral-8x7b",
    "Qwen3-235B-A22B": "qwen3-235b-a22b", "Qwen3-235B-A22B-FP8": "qwen3-235b-a22b", "Qwen3-32B": "qwen3-32b",
    "Qwen3-32B-NVFP4": "qwen3-32b", "Qwen3-8B-FP8": "qwen3-8b", "gpt-oss-120b": "gpt-oss-120b", "gpt-oss-20b": "gpt-oss-20b",
}  # fmt: skip
#: Models that are on no shelf, written out from their published config.json.
_HEADS = {"kind": "grouped_query"}
OWN_MODELS: dict[str, dict[str, Any]] = {
    "BLOOM-176B": {
        "name": "bloom-176b", "family": "bloom", "num_layers": 70, "hidden_size": 14336, "vocab_size": 250880,
        "attention": {**_HEADS, "num_heads": 112, "num_kv_heads": 112, "head_dim": 128}, "intermediate_size": 57344,
        "gated": False, "tied_embeddings": True, "max_context": 16384,
    },
    "GPT-J 6B": {
        "name": "gpt-j-6b", "family": "gpt-j", "num_layers": 28, "hidden_size": 4096, "vocab_size": 50400,
        "attention": {**_HEADS, "num_heads": 16, "num_kv_heads": 16, "head_dim": 256}, "intermediate_size": 16384,
        "gated": False, "max_context": 4096,
    },
    "Mistral-7B": {
        "name": "mistral-7b", "family": "mistral", "num_layers": 32, "hidden_size": 4096, "vocab_size": 32000,
        "attention": {**_HEADS, "num_heads": 32, "num_kv_heads": 8, "head_dim": 128}, "intermediate_size": 14336,
        "max_context": 32768,
    },
}  # fmt: skip
#: Metric in the table -> what the result calls it, and whether it is per GPU.
METRICS: dict[str, tuple[str, bool]] = {
    "ttft_ms": ("mean_ttft_ms", False), "ttft_ms_mean": ("mean_ttft_ms", False), "ttft_ms_p50": ("median_ttft_ms", False),
    "ttft_ms_p99": ("p99_ttft_ms", False), "tpot_ms": ("mean_tpot_ms", False), "tpot_ms_mean": ("mean_tpot_ms", False),
    "tpot_ms_p99": ("p99_tpot_ms", False), "e2e_ms": ("mean_e2el_ms", False), "e2e_ms_mean": ("mean_e2el_ms", False),
    "e2e_ms_p99": ("p99_e2el_ms", False), "output_tok_s_total": ("output_throughput", False),
    "output_tok_s_per_gpu": ("output_throughput", True), "makespan_s": ("duration", False),
}  # fmt: skip
KIND_OF_METRIC = {"ttft": "TTFT", "tpot": "TPOT", "e2e_": "E2E", "outp": "throughput", "make": "makespan"}
#: TensorRT-LLM's defaults for the largest batch and step.
_TRT_BATCH, _TRT_TOKENS = 2048, 8192
_MOST_REQUESTS = 4000
_BLACKWELL = ("B200", "GB200", "GB300", "RTX6000")


class RefusedError(Exception):
    """A row that cannot be predicted, and why."""


@dataclass(frozen=True)
class Prediction:
    """What was measured, what the simulator says, what the roofline says before its constant."""

    row: Row
    predicted: float
    roofline: float


# ---- from a row to a scenario ----------------------------------------------------------------------------------


def engine_of(row: Row) -> str:
    """Return the engine file that stands for a row's engine and version."""
    name, version = str(row["engine"]), str(row["engine_version"])
    if name.startswith("vllm (2023"):
        return "vllm-2023"
    if name == "tensorrt-llm":
        return {"0.6.1": "tensorrt-llm-0.9", "0.9.0": "tensorrt-llm-0.9", "1.0.0rc3": "tensorrt-llm-1.0"}.get(
            version, name
        )
    if name == "vllm":
        return "vllm-0.12" if version == "0.12.0" else "vllm-v1"
    if name == "sglang":
        return "sglang"
    raise RefusedError(f"engine {name} has no description")


def profile_of(row: Row) -> str | None:
    """Return the profile of the engine's own kernels, where the device has one; None for the device's best."""
    device = load_node(NODES[row["gpu"]]).accelerator.name
    return "vllm" if row["engine"] == "vllm" and load_profile_names(device).count("vllm") else None


def load_profile_names(device: str) -> list[str]:
    """Return the names of a device's profiles."""
    return sorted(path.parent.name for path in (folder() / device).glob("*/profile.yaml"))


def precision_of(row: Row) -> dict[str, str] | None:
    """Return the formats of a row; those that it leaves open are chosen as its engine and checkpoint usually have them."""
    given, kv, model = str(row["precision"]).rstrip("?"), row["kv_precision"], str(row["model"])
    blackwell = str(row["gpu"]).startswith(_BLACKWELL)
    if model.startswith("gpt-oss"):
        form = {"weights": "mxfp4", "activations": "fp8" if blackwell else "bf16", "scope": "experts"}
    elif given in ("fp4", "nvfp4"):
        form = {"weights": "nvfp4"}
    elif given == "int4":
        form = {"weights": "int4_group32", "scope": "experts"}
    elif given == "fp8":
        blocks = model.startswith(
            ("DeepSeek", "Qwen3-235B-A22B-FP8", "MiniMax", "Qwen3-8B-FP8")
        ) or "gemm=fp8_block" in str(row["notes"])
        form = {"weights": "fp8_block" if blocks else "fp8", "activations": "fp8"}
    else:
        form = {"weights": given}
    wide = "fp16" if given == "fp16" else "bf16"
    if not isinstance(kv, str) or kv == "auto":
        hopper_vllm = model.startswith("gpt-oss") and not blackwell and row["engine"] == "vllm"
        kv = wide if given in ("fp16", "bf16", "int4") or hopper_vllm or kv == "auto" else "fp8"
    return {**form, "kv_cache": kv}


def _count(row: Row, key: str) -> int:
    value = pd.to_numeric(pd.Series([row[key]]), errors="coerce").iloc[0]
    if not np.isfinite(value):
        raise RefusedError(f"{key} is not given as a number")
    return int(value)


def layout_of(row: Row) -> dict[str, int]:
    """Return the parallelism; where expert and attention parallelism are not printed, one rank a GPU of both."""
    tp, pp = _count(row, "tp"), _count(row, "pp")
    if pd.isna(row["ep"]) or pd.isna(row["dp"]):
        return {"ep": tp, "attention_dp": tp, "pp": pp}
    return {"tp": tp, "pp": pp, "ep": _count(row, "ep"), "attention_dp": _count(row, "dp")}


def load_of(row: Row) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the workload and the scheduler of a row."""
    kind = str(row["load_kind"])
    if kind == "arrival_trace":
        return _trace_load(row)
    isl, osl, load = _count(row, "isl"), _count(row, "osl"), _count(row, "load_value")
    lengths: dict[str, Any] = {"kind": "fixed", "input": isl, "answer": osl}
    if "[0.8,1.0]" in str(row["notes"]):
        lengths = {"kind": "independent", "input": _range(isl), "answer": _range(osl)}
    workload: dict[str, Any] = {"lengths": lengths}
    if kind == "static_batch":
        workload |= {"arrivals": {"kind": "all_at_once"}, "num_requests": load}
        return workload, {"kind": "static_batch", "max_num_seqs": load}
    if kind == "concurrency":
        workload |= {
            "arrivals": {"kind": "closed_loop", "concurrency": load},
            "num_requests": max(10 * load, 40),
        }
        return workload, {"kind": "chunked_prefill", "max_num_seqs": max(1024, load)}
    if kind == "offline_all_at_once":
        workload |= {"arrivals": {"kind": "all_at_once"}, "num_requests": min(load, _MOST_REQUESTS)}
        return workload, {"kind": "chunked_prefill", "max_num_seqs": _TRT_BATCH, "token_budget": _TRT_TOKENS}
    raise RefusedError(f'load "{kind}" is not simulated from this table')


def _range(nominal: int) -> dict[str, Any]:
    return {"kind": "uniform", "low": max(1, round(0.8 * nominal)), "high": nominal}


def _trace_load(row: Row) -> tuple[dict[str, Any], dict[str, Any]]:
    if "p99" in str(row["metric"]):
        raise RefusedError("a tail over a trace of which the table has the mean lengths only")
    means = [float(str(row[key]).partition("mean ")[2].rstrip(")")) for key in ("isl", "osl")]
    words = str(row["load_value"]).split()
    rate = float(words[words.index("req/s,") - 1])
    shape = [{"kind": "lognormal", "mean": mean, "cv": 1} for mean in means]
    workload = {
        "arrivals": {"kind": "poisson", "rate": f"{rate:g} req/s"}, "num_requests": int(words[0]),
        "lengths": {"kind": "independent", "input": shape[0], "answer": shape[1]},
    }  # fmt: skip
    settings = dict(part.split("=") for part in str(row["notes"]).replace(";", " ").split() if "=" in part)
    scheduler = {"kind": "chunked_prefill", "max_num_seqs": int(settings["max_num_seqs"]),
                 "token_budget": int(settings["max_num_batched_tokens"])}  # fmt: skip
    return workload, scheduler


def scenario_of(row: Row, engine: object = None) -> Scenario:
    """Return the scenario of a row; raises RefusedError or InputError."""
    if row["gpu"] not in NODES:
        raise RefusedError(f"{row['gpu']} has no node")
    model: object = OWN_MODELS.get(row["model"]) or MODELS.get(row["model"])
    if model is None:
        raise RefusedError(f"{row['model']} has no description here")
    if "disaggregated" in str(row["source"]):
        raise RefusedError("prefill and decode on different machines")
    engine = engine or engine_of(row)
    workload, scheduler = load_of(row)
    layout, node = layout_of(row), NODES[row["gpu"]]
    accelerators = layout.get("tp", 1) * layout["pp"] * layout["attention_dp"]
    if layout["ep"] == 1 and layout["attention_dp"] > 1:
        layout["ep"] = layout["attention_dp"] * layout.get("tp", 1)
    count = 1 if accelerators <= 8 or "nvl72" in node else -(-accelerators // 8)
    given: dict[str, Any] = {
        "name": "row",
        "warm_up": "none",
        "fleet": [{"site": "us-iowa", "clusters": [{"name": "c", "node": node, "count": count}]}],
        "deployments": [
            {"name": "d", "model": model, "on": "c", "parallelism": layout, "precision": precision_of(row),
             "scheduler": scheduler, "serving_engine": engine}
        ],
        "workloads": [workload],
    }  # fmt: skip
    given["deployments"][0]["profile"] = profile_of(row)
    if row["load_kind"] == "offline_all_at_once":
        scheduler["max_num_seqs"] = _never_evicted(given, row)
    return Scenario.model_validate(given)


def _never_evicted(given: Mapping[str, Any], row: Row) -> int:
    """Return how many sequences fit to their ends: TensorRT-LLM's scheduler admits no more (GUARANTEED_NO_EVICT)."""
    [deployment] = given["deployments"]
    one = {**deployment, "scheduler": {**deployment["scheduler"], "max_num_seqs": 1}}
    memory = plan(Scenario.model_validate({**given, "deployments": [one]}))[0].memory
    tokens = _count(row, "isl") + _count(row, "osl")
    fit = int(
        (memory.kv_bytes + memory.window_bytes) // (tokens * memory.kv_bytes_per_token + memory.window_bytes)
    )
    if fit < 1:
        raise RefusedError("not one request fits the KV cache that is left")
    return min(_TRT_BATCH, fit)


# ---- from a scenario to numbers --------------------------------------------------------------------------------


@cache
def _run(scenario: str) -> dict[str, Any]:
    return simulate(Scenario.model_validate_json(scenario)).metrics


def predict(row: Row, engine: object = None) -> Prediction:
    """Return the prediction of one row; raises RefusedError or InputError."""
    if row["metric"] not in METRICS:
        raise RefusedError(f"metric {row['metric']}")
    scenario = scenario_of(row, engine)
    metrics = _run(scenario.model_dump_json())
    if metrics["failed"]:
        raise RefusedError("requests are longer than the KV cache that is left")
    key, per_gpu = METRICS[row["metric"]]
    if metrics[key] is None:
        raise RefusedError("overloaded: the mean has no bound")
    value = metrics[key] / (metrics["num_accelerators"] if per_gpu else 1)
    return Prediction(row, float(value), roofline(scenario, row))


def roofline(scenario: Scenario, row: Row) -> float:
    """Return the metric as the bare roofline has it: operators' max(FLOP/peak, bytes/bandwidth), no overheads."""
    each = plan(scenario)[0]
    workload = scenario.workloads[0]
    isl, osl = _mean_lengths(row)
    scheduler = each.deployment.scheduler
    load = workload.closed_loop.concurrency if workload.closed_loop else workload.num_requests or 1
    batch = min(load, scheduler.max_num_seqs * each.deployment.parallelism.attention_dp)
    at_once = batch if scheduler.kind == "static_batch" else 1  # type: ignore[attr-defined]  # every kind has one
    prefill_s = _roofline_s(
        each, StepShape(0, 0, isl * at_once, at_once * isl * (isl + 1) / 2, isl * at_once, at_once, isl)
    )
    step_s = _roofline_s(each, StepShape(batch, batch * (isl + osl / 2)))
    tpot_s = step_s + (batch * prefill_s / osl if at_once == 1 else 0.0)
    e2e_s = prefill_s + osl * tpot_s
    rate = batch * osl / (prefill_s + osl * tpot_s if at_once > 1 else osl * tpot_s)
    kind = str(row["metric"])[:4]
    gpus = each.num_accelerators if row["metric"] == "output_tok_s_per_gpu" else 1
    return {"ttft": prefill_s * 1e3, "tpot": tpot_s * 1e3, "e2e_": e2e_s * 1e3, "outp": rate / gpus,
            "make": load / batch * e2e_s}[kind]  # fmt: skip


def _mean_lengths(row: Row) -> tuple[float, float]:
    if row["load_kind"] == "arrival_trace":
        isl, osl = (float(str(row[key]).partition("mean ")[2].rstrip(")")) for key in ("isl", "osl"))
        return isl, osl
    share = _mean_share(row)
    return share * _count(row, "isl"), share * _count(row, "osl")


def _roofline_s(each: DeploymentPlan, shape: StepShape) -> float:
    cost, total = each.cost, 0.0
    bandwidth = cost.device.memory_bandwidth_bytes_per_s.value
    for op in cost.ops(shape):
        if op.family not in COLLECTIVES:
            peak = cost.fit(op.family, op.dtype)[1]
            total += op.count * max(float(op.flops) / peak, float(op.bytes) / bandwidth)
    return total


# ---- many rows -------------------------------------------------------------------------------------------------


def read(path: Path) -> pd.DataFrame:
    """Return the rows of a table of serving results, with the columns that errors are grouped by."""
    frame = pd.read_csv(path, low_memory=False)
    frame["family"] = [family_of(source) for source in frame["source"]]
    frame["kind"] = [KIND_OF_METRIC.get(str(metric)[:4], "other") for metric in frame["metric"]]
    frame["half"] = [half_of(group) for group in frame["group_id"]]
    return frame


def family_of(source: str) -> str:
    """Return a short name of a source."""
    short = source.removeprefix("aiconfigurator silicon_sample: ")
    if short == source:
        return source
    return "gap-analysis " + "/".join(short.split("/")[1:3]) if short.startswith("gap") else "InferenceX"


def half_of(group: object) -> str:
    """Return the half that a group of rows falls in: constants are fitted on one and tested on the other."""
    return "fit" if hashlib.sha256(str(group).encode()).digest()[0] % 2 else "test"


def sample(frame: pd.DataFrame, most: int = 24) -> pd.DataFrame:
    """Return the core rows and, of every source, engine and half, up to `most` runs more, spread by a hash."""
    run = frame[_RUN].astype(object).fillna("").astype(str).agg("|".join, axis=1)
    order = run.map(lambda text: hashlib.sha256(text.encode()).hexdigest())
    ranked = order.groupby([frame["family"], frame["engine"], frame["half"]]).rank(method="dense")
    core = set(run[frame["core"] == 1])
    return frame[(ranked <= most) | run.isin(core)]


def predict_all(
    rows: pd.DataFrame, engine: object = None, say: Callable[[str], None] = lambda _: None
) -> tuple[pd.DataFrame, Counter[str]]:
    """Return (rows with predicted, roofline; why others were refused)."""
    found: list[dict[str, Any]] = []
    refused: Counter[str] = Counter()
    started = time.monotonic()
    for index, row in enumerate(rows.to_dict("records"), 1):
        typed = cast("dict[str, Any]", row)
        try:
            prediction = predict(typed, engine)
        except RefusedError as why:
            refused[str(why)] += 1
            continue
        except InputError as why:
            refused[str(why).splitlines()[0][:120]] += 1
            continue
        found.append({**typed, "predicted": prediction.predicted, "roofline": prediction.roofline})
        if index % 100 == 0:
            say(f"{index} of {len(rows)} rows, {time.monotonic() - started:.0f} s")
    frame = with_errors(pd.DataFrame(found))
    impossible = beyond_the_roofline(frame)
    refused["measured faster than the bare roofline allows: the load or the layout is not as recorded"] = int(
        impossible.sum()
    )
    return with_errors(frame[~impossible]), refused


def beyond_the_roofline(frame: pd.DataFrame) -> pd.Series[bool]:
    """Say which rows no machine could have: a faster rate or TTFT than the roofline, or a closed loop whose requests

    come back sooner (TTFT + output x TPOT) than the roofline takes to prefill the prompts of all of its users.
    """
    rate = frame["kind"] == "throughput"
    impossible = (rate & (frame["value"] > frame["roofline"])) | (
        (frame["kind"] == "TTFT") & (frame["value"] < frame["roofline"])
    )
    closed = frame[frame["load_kind"] == "concurrency"]
    for _, run in closed.groupby(_RUN, dropna=False):
        if set(run["metric"]) != {"ttft_ms", "tpot_ms"}:
            continue
        ttft, tpot = (run[run["metric"] == metric].iloc[0] for metric in ("ttft_ms", "tpot_ms"))
        around_ms = ttft["value"] + float(tpot["osl"]) * _mean_share(tpot) * tpot["value"]
        if around_ms < float(tpot["load_value"]) * ttft["roofline"]:
            impossible |= frame.index.isin(run.index)
    return impossible


def _mean_share(row: Row) -> float:
    return 0.9 if "[0.8,1.0]" in str(row["notes"]) else 1.0


def with_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """Add signed relative errors: `error` of the prediction, `baseline` of the scaled roofline."""
    rate = frame["kind"] == "throughput"
    ratio = frame["value"] / frame["roofline"]
    times = np.where(rate, 1 / ratio, ratio)
    grid = np.geomspace(0.5, 20, 400)
    scaled = [np.median(np.abs(np.where(rate, (1 / (c * ratio)), c / times) - 1)) for c in grid]
    constant = float(grid[int(np.argmin(scaled))])
    baseline = np.where(rate, 1 / (constant * ratio), constant / times) - 1
    return frame.assign(error=frame["predicted"] / frame["value"] - 1, baseline=baseline, constant=constant)


def table(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return the number of rows, median and p90 absolute error, median signed error and the baseline's, in per cent."""

    def of(group: pd.DataFrame) -> pd.Series[Any]:
        error, base = group["error"], group["baseline"]
        values = [len(group), error.abs().median(), error.abs().quantile(0.9), error.median(),
                  base.abs().median(), base.abs().quantile(0.9)]  # fmt: skip
        return pd.Series([values[0], *(round(100 * value, 1) for value in values[1:])],
                         index=["rows", "median", "p90", "signed", "base median", "base p90"])  # fmt: skip

    return frame.groupby(by)[["error", "baseline"]].apply(of)


def main(arguments: Iterable[str] | None = None) -> None:
    """Predict and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--engine", help="rows whose engine begins so")
    parser.add_argument("--every", action="store_true", help="every row instead of core rows and a sample")
    parser.add_argument("--most", type=int, default=24, help="runs sampled of a source, engine and half")
    parser.add_argument("--out", type=Path, help="write the rows with predictions there")
    options = parser.parse_args(arguments if arguments is None else list(arguments))
    rows = read(options.csv)
    if options.engine:
        rows = rows[rows["engine"].str.startswith(options.engine)]
    chosen = rows if options.every else sample(rows, options.most)
    found, refused = predict_all(chosen, say=lambda text: print(text, file=sys.stderr))
    if options.out:
        found.to_csv(options.out, index=False)
    print(
        f"{len(found)} rows predicted of {len(chosen)}; baseline: roofline x {found['constant'].iloc[0]:.2f}\n"
    )
    for by in (
        ["kind"],
        ["kind", "half"],
        ["family", "engine", "kind"],
        ["engine", "kind"],
        ["gpu", "kind"],
        ["model", "kind"],
    ):
        print(table(found, by).to_string(), "\n")
    print("RefusedError:")
    for why, times in refused.most_common():
        print(f"  {times:5d}  {why}")


if __name__ == "__main__":
    main()
