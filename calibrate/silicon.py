"""Fit device profiles to the measured operator tables of aiconfigurator-core (NVIDIA, Apache-2.0).

    python -m calibrate.silicon --out hardware_specs/profiles

The law is that of `clustersim.cost.profile`, the definitions of flops, bytes, depth and tasks those of `calibrate`.
Rows faster than the raw roofline are refused and counted. Shapes are split 70 : 30 into fitted and held-out by a
hash, and every error stored is on held-out shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from calibrate import FAMILIES, Family, Rows
from clustersim.cost.profile import (
    BY_KV_DTYPE,
    PEAKS,
    RING_STEPS,
    Array,
    CollectiveFit,
    Error,
    Fit,
    Imbalance,
    Profile,
    Provenance,
    smooth_max,
)  # fmt: skip
from clustersim.hardware.accelerator import Accelerator, load_accelerator
from clustersim.units import GIGA, MILLI, write

VERSION, DATE = "0.12.0", "2026-11-22"
_MAX_ROWS = 20_000
_CAVEATS = [
    "Kernels timed warm and back to back: no launch gaps of a real engine, which cost elsewhere.",
    "fp8 matrix products include what quantising of activations the engine's module does.",
    "moe is the whole expert layer without communication, experts evenly loaded (see moe_imbalance).",
    "moe leaves out kernel min_latency: some of its rows beat the roofline.",
    "attention_decode leaves out more than 32 query heads a KV head: a ten times slower kernel.",
]
_DTYPES = {
    "bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8_block", "nvfp4": "nvfp4", "sq": "int8", "int8_wo": "w8a16",
    "int4_wo": "w4a16", "w4a16_mxfp4": "w4a16_mxfp4", "w4a8_mxfp4_mxfp8": "w4a8_mxfp4",
}  # fmt: skip


@dataclass(frozen=True)
class Device:
    """Which tables describe a device, and its scale-up fabric."""

    tables: str
    nccl: str
    link_gb_per_s: float
    """Per direction and GPU, from the datasheet: NVLink 3 / 4 / 5 or PCIe 4 / 5 x16."""
    engines: Mapping[str, tuple[str, str]]
    """Engine and version by folder of tables, "" for the rest."""
    keep: Mapping[str, str] = MappingProxyType({})
    """A further condition on the rows, by folder of tables."""
    caveats: tuple[str, ...] = ()


_TRTLLM = {"": ("trtllm", "1.3.0rc20")}
_NVL72 = "NCCL measured on 2 and 4 of the 72 GPUs."
DEVICES = {
    "a100-sxm-80gb": Device(
        "a100_sxm", "2.27.3", 300.0,
        {"": ("trtllm", "1.0.0"), "attention": ("vllm", "0.14.0"), "moe": ("sglang", "0.5.10")},
        {"moe": "moe_ep_size == 1"},
        ("Attention from vllm 0.14.0: of trtllm 1.0.0's decode rows over 64 MB, 22 % beat the memory bandwidth.",
         "moe from sglang 0.5.10, one expert-parallel rank: trtllm 1.0.0 has no evenly loaded rows."),
    ),
    "h100-sxm": Device("h100_sxm", "2.29.2", 450.0, _TRTLLM),
    "h200-sxm": Device("h200_sxm", "2.29.2", 450.0, _TRTLLM),
    "b200-sxm": Device("b200_sxm", "2.29.2", 900.0, _TRTLLM),
    "b300-sxm": Device("b300_sxm", "2.29.2", 900.0, _TRTLLM),
    "gb200-nvl72": Device("gb200", "2.29.2", 900.0, _TRTLLM, {}, (_NVL72,)),
    "gb300-nvl72": Device("gb300", "2.29.2", 900.0, _TRTLLM, {}, (_NVL72,)),
    "l40s": Device("l40s", "2.27.3", 31.0, {"": ("trtllm", "1.3.0rc20"), "mla": ("trtllm", "1.0.0")}),
    "rtx-pro-6000-server": Device("rtx_pro_6000_server", "2.29.2", 63.0, _TRTLLM),
}  # fmt: skip


def tables_folder() -> Path:
    """Return where the package keeps its tables; raises ImportError that names the extra."""
    try:
        import aiconfigurator_core
    except ImportError:
        raise ImportError("fitting needs the measured tables: pip install 'clustersim[silicon]'") from None
    return Path(aiconfigurator_core.__file__).parent / "systems" / "data"


def read_table(device: Device, family: Family) -> tuple[pd.DataFrame, str]:
    """Return a family's kept rows, the best kernel a shape, with `seconds`, and the table's path."""
    engine, version = device.engines.get(family.folder, device.engines[""])
    path = tables_folder() / device.tables / family.folder / engine / version / f"{family.file}.parquet"
    if not path.exists():
        return pd.DataFrame(), ""
    table = pd.read_parquet(path)
    if "window_size" not in table:
        table["window_size"] = 0
    if family.folder == "moe":
        table = table[~table.kernel_source.str.endswith("min_latency")]
    table = table.query(family.keep).query(device.keep.get(family.folder, "latency > 0"))
    table = table.assign(seconds=table.latency * MILLI).sort_values("latency")
    told_by = {"framework", "version", "device", "op_name", "kernel_source", "latency", "seconds", "tp_size"}
    return table.drop_duplicates([c for c in table if c not in told_by]), str(
        path.relative_to(tables_folder())
    )


def _draw(table: pd.DataFrame) -> Array:
    """Return a number in [0, 1) a row, from its shape alone."""
    shape = table.select_dtypes("number").drop(columns=["latency", "seconds"])
    return pd.util.hash_pandas_object(shape, index=False).to_numpy(dtype=np.uint64) / 2.0**64


def judge(predicted: Array, raw: Array, measured: Array, held_out: Array, constant: float) -> Error | None:
    """Return the errors on the rows of `held_out`; None for fewer than ten."""
    if held_out.sum() < 10:
        return None
    ape, base = (np.abs(x[held_out] / measured[held_out] - 1) for x in (predicted, constant * raw))
    figures = [float(f"{np.quantile(x, q):.4g}") for x in (ape, base) for q in (0.5, 0.9)]
    return Error(num_test=int(held_out.sum()), median_ape_frac=figures[0], p90_ape_frac=figures[1],
                 baseline_median_ape_frac=figures[2], baseline_p90_ape_frac=figures[3])  # fmt: skip


def fit_family(name: str, dtype: str, table: pd.DataFrame, chip: Accelerator, source: str) -> Fit | None:
    """Fit the law to one family and data type; None for under 100 rows that could be true."""
    peak = "bf16" if name in BY_KV_DTYPE else PEAKS[dtype]
    table = table.iloc[np.argsort(_draw(table), kind="stable")[:_MAX_ROWS]]
    rows, measured, draw = FAMILIES[name].work(table, dtype), table.seconds.to_numpy(), _draw(table)
    compute = rows.flops / chip.peak_flops_per_s(peak).value
    memory = rows.bytes / chip.memory_bandwidth_bytes_per_s.value
    raw = np.maximum(compute, memory)
    true = measured >= raw
    if true.sum() < 100:
        return None
    held = np.modf(draw * 1e6)[0] >= 0.7
    train = true & ~held

    def law(x: Array) -> Array:
        return smooth_max([compute / x[0], memory / x[1], rows.depth * x[4], rows.tasks * x[5]], x[3]) + x[2]

    low = np.array([0.005, 0.05, 1e-8, 1.0, 1e-14, 1e-13])
    high = np.array([1.0, 1.0, 1e-3, 30.0, 1e-6, 1e-5])
    pull = np.sqrt(rows.weight[train])
    found = least_squares(
        lambda log_x: pull * np.log(law(np.exp(log_x)) / measured)[train],
        np.log([0.5, 0.8, 5e-6, 2.0, 1e-10, 1e-9]), bounds=(np.log(low), np.log(high)), loss="soft_l1", f_scale=0.05,
    )  # fmt: skip
    x = np.array([float(f"{value:.4g}") for value in np.exp(found.x)])
    x[4:] = np.where(x[4:] < 2 * low[4:], 0.0, x[4:])
    x = np.clip(x, [0, 0, 0, 1, 0, 0], high)
    return Fit(
        compute_frac=x[0], memory_frac=x[1], overhead_s=_in(x[2], "s"), smoothness=x[3],
        span_s=_in(x[4], "s"), task_s=_in(x[5], "s"), peak=peak,
        evidence="fitted", source=source, num_rows=int(train.sum()), num_refused=int((~true).sum()),
    ).model_copy(update=_errors(law(x), raw, measured, rows, held=held & true, train=train))  # fmt: skip


def _in(value: float, unit: str) -> Any:
    """Return a quantity as it is written, which is the only way that its fields take it."""
    return write(float(value), unit)


def _errors(
    predicted: Array, raw: Array, measured: Array, rows: Rows, held: Array, train: Array
) -> dict[str, Any]:
    """Return the `error` and `bands` of a fit, beside those of the best single constant on fitted headline rows."""
    known = train & rows.headline if (train & rows.headline).any() else train
    constants = np.geomspace(1.0, 30.0, 300)
    medians = [np.median(np.abs(c * raw[known] / measured[known] - 1)) for c in constants]
    constant = float(constants[int(np.argmin(medians))])
    bands = {
        name: judge(predicted, raw, measured, held & band, constant) for name, band in rows.bands.items()
    }
    return {
        "error": judge(predicted, raw, measured, held & rows.headline, constant),
        "bands": {name: error for name, error in bands.items() if error},
    }


def fit_collective(operation: str, table: pd.DataFrame, link: float, source: str) -> CollectiveFit:
    """Fit one collective's rows (num_gpus, message_size in elements of 2 bytes, seconds); link in bytes/s."""
    ranks, message = (table[name].to_numpy(dtype=float) for name in ("num_gpus", "message_size"))
    message, measured = message * 2, table.seconds.to_numpy()
    groups = sorted(set(ranks.astype(int)))
    steps = RING_STEPS[operation] * (ranks - 1)
    flow = message * steps / ranks / link
    which = np.searchsorted(groups, ranks)
    held = np.round(np.log2(message)) % 4 == 1

    def law(x: Array) -> Array:
        latency, wire = x[0] + steps * x[1], flow / x[3:][which]
        return np.asarray(latency + wire + 2 * x[2] * np.sqrt(latency * wire))

    ceiling = np.array([2 * (n - 1) / n if operation == "all_reduce" else 1.0 for n in groups])
    low = np.array([1e-7, 1e-9, 1e-4, *[1e-3] * len(groups)])
    high = np.array([1e-3, 1e-4, 1.0, *np.nextafter(np.maximum(ceiling, 1.0), 0)])
    start = np.array([5e-6, 1e-6, 0.3, *[0.5] * len(groups)])
    found = least_squares(
        lambda log_x: np.log(law(np.exp(log_x)) / measured)[~held], np.log(start),
        bounds=(np.log(low), np.log(high)), loss="soft_l1", f_scale=0.1,
    )  # fmt: skip
    x = np.array([float(f"{value:.4g}") for value in np.exp(found.x)])
    raw = flow / ceiling[which]
    constants = np.geomspace(1.0, 100.0, 400)
    constant = float(
        constants[np.argmin([np.median(np.abs(c * raw / measured - 1)[~held]) for c in constants])]
    )
    return CollectiveFit.model_validate(
        {
            "operation": operation, "launch_s": _in(x[0], "s"), "hop_s": _in(x[1], "s"), "ramp": float(x[2]),
            "bandwidth_frac": dict(zip(groups, map(float, x[3:]), strict=True)), "link_bytes_per_s": _in(link, "B/s"),
            "largest_message_bytes": float(message.max()), "evidence": "fitted", "source": source,
            "num_rows": int((~held).sum()), "error": judge(law(x), raw, measured, held, constant),
        }
    )  # fmt: skip


def fit_collectives(device: Device) -> dict[str, dict[str, CollectiveFit]]:
    """Fit NCCL's four collectives, and up to 2 MB the engine's own all_reduce, which hands over to NCCL above."""
    link, folder = device.link_gb_per_s * GIGA, tables_folder()
    path = folder / device.tables / "comm" / "nccl" / device.nccl / "nccl_perf.parquet"
    table = pd.read_parquet(path).query("nccl_dtype == 'half'").eval("seconds = latency / 1000")
    fits: dict[str, dict[str, CollectiveFit]] = {}
    for name, rows in table.groupby("op_name"):
        operation = {"alltoall": "all_to_all"}.get(str(name), str(name))
        fits[operation] = {"nccl": fit_collective(operation, rows, link, str(path.relative_to(folder)))}
    engine, version = device.engines[""]
    path = folder / device.tables / "comm" / engine / version / "custom_allreduce_perf.parquet"
    rows = pd.read_parquet(path).query("message_size <= 2**20").eval("seconds = latency / 1000")
    fits["all_reduce"]["custom"] = fit_collective("all_reduce", rows, link, str(path.relative_to(folder)))
    return fits


def fit_imbalance(table: pd.DataFrame) -> Imbalance | None:
    """Return the median ratio of power_law_1.2's times to balanced ones, by expert-parallel ranks."""
    shape = ["moe_dtype", "kernel_source", "num_tokens", "hidden_size", "inter_size", "topk", "num_experts",
             "moe_tp_size", "moe_ep_size"]  # fmt: skip
    both = table.pivot_table(index=shape, columns="distribution", values="latency").dropna().reset_index()
    both["ratio"] = both["power_law_1.2"] / both["balanced"]
    each = both.num_tokens * both.topk / both.num_experts

    def by_ranks(rows: pd.DataFrame) -> dict[int, float]:
        return {int(ep): round(float(part.ratio.median()), 3) for ep, part in rows.groupby("moe_ep_size")}  # type: ignore[call-overload]

    return Imbalance(law="power_law_1.2", prefill=by_ranks(both[each >= 64]),
                     decode=by_ranks(both[(each >= 0.25) & (each <= 4)]), num_rows=len(both))  # fmt: skip


def fit_device(name: str) -> Profile:
    """Fit everything for one accelerator."""
    device, chip = DEVICES[name], load_accelerator(name)
    fits: dict[str, dict[str, Fit]] = {}
    tables, num_rows = [], 0
    for family, spec in FAMILIES.items():
        table, source = read_table(device, spec)
        tables += [source] if source else []
        num_rows += len(table)
        for column, dtype in _DTYPES.items() if source else ():
            rows = table[table[spec.dtype] == column]
            if fit := fit_family(family, dtype, rows, chip, source) if len(rows) else None:
                fits.setdefault(family, {})[dtype] = fit
    everything = FAMILIES["moe"]._replace(keep="num_tokens > 0")
    engine, version = device.engines[""]
    return Profile(
        schema_version=1, device=name, name="silicon", evidence="fitted",
        provenance=Provenance(
            package=f"aiconfigurator-core {VERSION}", license="Apache-2.0", engine=engine, engine_version=version,
            tables=tables, date=DATE, num_rows=num_rows, caveats=[*_CAVEATS, *device.caveats],
        ),
        fits=fits, collectives=fit_collectives(device), moe_imbalance=fit_imbalance(read_table(device, everything)[0]),
    )  # fmt: skip


def write_profile(profile: Profile, out: Path) -> Path:
    """Write `out`/<device>/<name>/profile.yaml and return its path."""
    from ruamel.yaml import YAML

    path = out / profile.device / profile.name / "profile.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    yaml = YAML()
    yaml.width = 118
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(profile.model_dump(mode="json", exclude_none=True), file)
    return path


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of profiles.")
@click.option("--device", "devices", multiple=True, type=click.Choice(list(DEVICES)), help="Default: all.")
def main(out: Path, devices: tuple[str, ...]) -> None:
    """Fit device profiles to aiconfigurator-core's measured operator tables."""
    for name in devices or DEVICES:
        profile = fit_device(name)
        click.echo(f"{write_profile(profile, out)}")
        for family, fits in [*profile.fits.items(), *profile.collectives.items()]:
            for kind, fit in fits.items():
                if error := fit.error:
                    click.echo(
                        f"  {family:17} {kind:11} {fit.num_rows:6} rows, held-out median {error.median_ape_frac:6.1%}"
                        f" p90 {error.p90_ape_frac:6.1%} (one constant {error.baseline_median_ape_frac:6.1%}"
                        f" {error.baseline_p90_ape_frac:6.1%})"
                    )


if __name__ == "__main__":
    main()
