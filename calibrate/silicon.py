"""Fit device profiles to the measured operator tables of aiconfigurator-core (NVIDIA, Apache-2.0).

    python -m calibrate.silicon --out hardware_specs/profiles

The law is that of `clustersim.cost.profile`, the definitions of flops, bytes, depth and tasks those of
`calibrate`. Rows faster than the raw roofline are refused and counted. Shapes are split 70 : 30 into fitted
and held-out by a hash, and every error stored is on held-out shapes. Beside the constants go measured rows, which
correct the law near them (`calibrate.silicon_tables`, `clustersim.cost.tables`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy.interpolate import RegularGridInterpolator

from calibrate import DEVICES, FAMILIES, VARIANTS, Device, Mask, read_table, tables_folder
from calibrate.law import best_constant, descend, fit_law, judge, law, written
from calibrate.silicon_tables import STORED, Split, measured_rows, split, write_tables
from clustersim.cost.profile import (
    RING_STEPS,
    Array,
    CollectiveFit,
    Error,
    Fit,
    Imbalance,
    Profile,
    Provenance,
)
from clustersim.hardware.accelerator import Accelerator, load_accelerator
from clustersim.units import GIGA, MILLI

VERSION, DATE = "0.12.0", "2026-11-22"
_CAVEATS = [
    "Kernels timed warm and back to back: no launch gaps of a real engine, which cost elsewhere.",
    "fp8 matrix products include quantising of activations, but not the search for its scale, which was timed apart"
    " (computescale_perf) and taken off: published fp8 checkpoints have static scales.",
    "moe is the whole expert layer without communication, experts evenly loaded (see moe_imbalance).",
    "moe leaves out kernel min_latency: some of its rows beat the roofline.",
    "attention: a head size of 128 rules the fit; 64, 192 and 256 weigh a twentieth and can be 2x off.",
    "attention_decode leaves out more than 32 query heads a KV head: a ten times slower kernel.",
    "tables/ holds a thinned part of the rows fitted on, times as in the package (Apache-2.0, Copyright NVIDIA), with"
    " FLOP, bytes, depth and tasks added; attention of a head size of 128 only.",
]
_ALL_LOADS = FAMILIES["moe"]._replace(keep="num_tokens > 0")
_DTYPES = {
    "bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8_block", "nvfp4": "nvfp4", "sq": "int8",
    "int8_wo": "w8a16", "int4_wo": "w4a16", "w4a16_mxfp4": "w4a16_mxfp4", "w4a8_mxfp4_mxfp8": "w4a8_mxfp4",
}  # fmt: skip


def with_static_scales(table: pd.DataFrame, device: Device) -> tuple[pd.DataFrame, str]:
    """Take the search for the largest activation off fp8 rows, where it was timed apart; (m, k) -> seconds.

    The engine's module finds a scale at each call; checkpoints with static scales, as are usual, skip that kernel.
    Between the measured shapes linear in log m and log k, outside the nearest. Returns the rows and the path of that
    table, "" where there is none.
    """
    engine, version = device.engines[""]
    path = tables_folder() / device.tables / "quantize" / engine / version / "computescale_perf.parquet"
    if not path.exists():
        return table, ""
    search = (
        pd.read_parquet(path)
        .query("quant_dtype == 'fp8'")
        .pivot_table(index="m", columns="k", values="latency")
    )
    search = search.interpolate(axis=1).bfill(axis=1).ffill()
    log_m, log_k = np.log(search.index.to_numpy(float)), np.log(search.columns.to_numpy(float))
    at = [
        np.clip(np.log(table[name].to_numpy(float)), axis[0], axis[-1])
        for name, axis in (("m", log_m), ("k", log_k))
    ]
    spent = RegularGridInterpolator((log_m, log_k), search.to_numpy() * MILLI)(np.stack(at, axis=1))
    return table.assign(seconds=table.seconds - spent), str(path.relative_to(tables_folder()))


def fit_family(name: str, dtype: str, table: pd.DataFrame, chip: Accelerator, source: str) -> Fit | None:
    """Fit the law to one family and data type; None for under 100 rows that could be true."""
    return fit_split(split(name, dtype, table, chip), source)


def fit_split(parts: Split, source: str) -> Fit | None:
    """Fit the law to the rows that are for it; None for under 100 that could be true."""
    if parts.true.sum() < 100:
        return None
    train, measured = parts.train, parts.measured
    x = fit_law(parts.terms.at(train), measured[train], np.sqrt(parts.rows.weight[train]))
    predicted, raw, constant = law(x, parts.terms), parts.terms.raw_s, parts.constant

    def error(of: Mask) -> Error | None:
        return judge(predicted, raw, measured, parts.held & of, constant)

    bands = {name: error(band) for name, band in parts.rows.bands.items()}
    return Fit(
        compute_frac=x[0], memory_frac=x[1], overhead_s=written(x[2], "s"), smoothness=x[3],
        span_s=written(x[4], "s"), task_s=written(x[5], "s"), peak=parts.peak, evidence="fitted", source=source,
        num_rows=int(train.sum()), num_refused=int((~parts.true).sum()), error=error(parts.rows.headline),
        bands={name: found for name, found in bands.items() if found},
    )  # fmt: skip


def fit_collective(operation: str, table: pd.DataFrame, link: float, source: str) -> CollectiveFit:
    """Fit one collective's rows (num_gpus, message_size in elements of 2 bytes, seconds); link in bytes/s."""
    ranks, message = (table[name].to_numpy(dtype=float) for name in ("num_gpus", "message_size"))
    message, measured = message * 2, table.seconds.to_numpy()
    groups = sorted(set(ranks.astype(int)))
    steps = RING_STEPS[operation] * (ranks - 1)
    flow = message * steps / ranks / link
    which = np.searchsorted(groups, ranks)
    held = np.round(np.log2(message)) % 3 == 0

    def law(x: Array) -> Array:
        latency, wire = x[0] + steps * x[1], flow / x[3:][which]
        return np.asarray(latency + wire + 2 * x[2] * np.sqrt(latency * wire))

    def residuals(log_x: Array) -> Array:
        return np.asarray(np.log(law(np.exp(log_x)) / measured)[~held])

    ceiling = np.array([2 * (n - 1) / n if operation == "all_reduce" else 1.0 for n in groups])
    low = np.array([1e-7, 1e-9, 1e-4, *[1e-3] * len(groups)])
    high = np.array([1e-3, 1e-4, 1.0, *np.nextafter(np.maximum(ceiling, 1.0), 0)])
    start = np.array([5e-6, 1e-6, 0.3, *[0.5] * len(groups)])
    x = descend(residuals, [start], low, high)
    raw = flow / ceiling[which]
    constant = best_constant(raw[~held], measured[~held])
    return CollectiveFit.model_validate(
        {
            "operation": operation, "launch_s": written(x[0], "s"), "hop_s": written(x[1], "s"), "ramp": float(x[2]),
            "bandwidth_frac": dict(zip(groups, map(float, x[3:]), strict=True)),
            "link_bytes_per_s": written(link, "B/s"),
            "largest_message_bytes": written(message.max(), "B"), "evidence": "fitted", "source": source,
            "num_rows": int((~held).sum()), "error": judge(law(x), raw, measured, held, constant),
        }
    )  # fmt: skip


def fit_collectives(device: Device) -> dict[str, dict[str, CollectiveFit]]:
    """Fit NCCL's four collectives, and the engine's own all_reduce up to 1 MiB, where NCCL takes over."""
    link, folder = device.link_gb_per_s * GIGA, tables_folder()
    path = folder / device.tables / "comm" / "nccl" / device.nccl / "nccl_perf.parquet"
    table = pd.read_parquet(path).query("nccl_dtype == 'half'")
    table = table.assign(seconds=table.latency * MILLI)
    fits: dict[str, dict[str, CollectiveFit]] = {}
    for name, rows in table.groupby("op_name"):
        operation = {"alltoall": "all_to_all"}.get(str(name), str(name))
        fits[operation] = {"nccl": fit_collective(operation, rows, link, str(path.relative_to(folder)))}
    engine, version = device.engines[""]
    path = folder / device.tables / "comm" / engine / version / "custom_allreduce_perf.parquet"
    rows = pd.read_parquet(path).query("message_size <= 2**19")
    rows = rows.assign(seconds=rows.latency * MILLI)
    fits["all_reduce"]["custom"] = fit_collective("all_reduce", rows, link, str(path.relative_to(folder)))
    return fits


def fit_imbalance(table: pd.DataFrame) -> Imbalance:
    """Return the median ratio of power_law_1.2's times to balanced ones, by expert-parallel ranks."""
    shape = ["moe_dtype", "kernel_source", "num_tokens", "hidden_size", "inter_size", "topk", "num_experts",
             "moe_tp_size", "moe_ep_size"]  # fmt: skip
    both = table.pivot_table(index=shape, columns="distribution", values="latency").dropna().reset_index()
    both["ratio"] = both["power_law_1.2"] / both["balanced"]
    each = both.num_tokens * both.topk / both.num_experts

    def by_ranks(rows: pd.DataFrame) -> dict[int, float]:
        medians = rows.groupby("moe_ep_size")["ratio"].median()
        return {int(str(ranks)): round(float(ratio), 3) for ranks, ratio in medians.items()}

    return Imbalance(law="power_law_1.2", prefill=by_ranks(both[each >= 64]),
                     decode=by_ranks(both[(each >= 0.25) & (each <= 4)]), num_rows=len(both))  # fmt: skip


@dataclass(frozen=True)
class Fitted:
    """A profile and the rows that go with it, by file."""

    profile: Profile
    tables: dict[str, pd.DataFrame]


def fit_device(name: str, variant: str = "silicon", base: Fitted | None = None) -> Fitted:
    """Fit everything for one accelerator, for a variant with what it lacks from `base`."""
    device, chip = VARIANTS[variant][name], load_accelerator(name)
    fits: dict[str, dict[str, Fit]] = {}
    files: dict[str, dict[str, str]] = {}
    kept: dict[str, pd.DataFrame] = {}
    sources, num_rows = [], 0
    for family, spec in FAMILIES.items():
        table, source = read_table(device, spec)
        sources += [source] if source else []
        if base and spec.folder not in device.engines:
            continue
        num_rows += len(table)
        for column, dtype in _DTYPES.items() if source else ():
            rows = table[table[spec.dtype] == column]
            if rows.empty or dtype in device.left_out.get(family, ()):
                continue
            less = ""
            if family == "gemm" and dtype == "fp8":
                rows, less = with_static_scales(rows, device)
                sources += [less] if less else []
            parts = split(family, dtype, rows, chip)
            if (fit := fit_split(parts, f"{source}, less {less}" if less else source)) is None:
                continue
            if family in STORED and (better := measured_rows(fit, parts, chip)):
                file = f"{family}.{dtype}.parquet"
                kept[file], error = better
                files.setdefault(family, {})[dtype] = f"tables/{file}"
                fit = fit.model_copy(update={"table_error": error})
            fits.setdefault(family, {})[dtype] = fit
    if base:
        _borrow(base.profile, fits, files)
    engine, version = device.engine
    return Fitted(
        Profile(
            schema_version=1, device=name, name=variant, evidence="fitted",
            provenance=Provenance(
                package=f"aiconfigurator-core {VERSION}", license="Apache-2.0", engine=engine,
                engine_version=version, tables=sources, date=DATE, num_rows=num_rows,
                caveats=[*_CAVEATS, *device.caveats],
            ),
            fits=fits, collectives=base.profile.collectives if base else fit_collectives(device),
            moe_imbalance=base.profile.moe_imbalance if base else fit_imbalance(read_table(device, _ALL_LOADS)[0]),
            tables=files,
        ),
        kept,
    )  # fmt: skip


def _borrow(base: Profile, fits: dict[str, dict[str, Fit]], files: dict[str, dict[str, str]]) -> None:
    """Add the fits that are only in `base`, and the files of rows that go with them."""
    for family, dtypes in base.fits.items():
        for dtype, fit in dtypes.items():
            if dtype not in fits.setdefault(family, {}):
                fits[family][dtype] = fit
                if file := base.tables.get(family, {}).get(dtype):
                    files.setdefault(family, {})[dtype] = f"../{base.name}/{file}"


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
        base = None
        for variant in (variant for variant, described in VARIANTS.items() if name in described):
            fitted = fit_device(name, variant, base)
            base = base or fitted
            path = write_profile(fitted.profile, out)
            write_tables(fitted.tables, path.parent / "tables")
            click.echo(f"{path}")
            _report(fitted.profile)


def _report(profile: Profile) -> None:
    for family, fits in profile.fits.items():
        for kind, fit in fits.items():
            click.echo(_line(family, kind, fit))
    for operation, kinds in profile.collectives.items():
        for kind, collective in kinds.items():
            click.echo(_line(operation, kind, collective))


def _line(family: str, kind: str, fit: Fit | CollectiveFit) -> str:
    line = f"  {family:17} {kind:11} {fit.num_rows:6} rows"
    if (error := fit.error) is None:
        return line
    line = (
        f"{line}, held-out median {error.median_ape_frac:6.1%} p90 {error.p90_ape_frac:6.1%}"
        f" (one constant {error.baseline_median_ape_frac:6.1%} {error.baseline_p90_ape_frac:6.1%})"
    )
    with_rows = fit.table_error if isinstance(fit, Fit) else None
    if with_rows is None:
        return line
    return f"{line}; with rows {with_rows.median_ape_frac:6.1%} {with_rows.p90_ape_frac:6.1%}"


if __name__ == "__main__":
    main()
