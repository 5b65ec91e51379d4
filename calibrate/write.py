"""Write a measured profile: a folder that appears whole or not at all, and that `clustersim` reads as it is.

    <root>/<device>/<name>/profile.yaml        what `clustersim.cost.profile.Profile` says
                           tables/*.parquet    a row a case: shape, flops, bytes, depth, tasks, seconds, spread_s, ...
                           samples/*.parquet   a row a sample, everything raw
                           errors.jsonl  plan.json  manifest.json (sha256 of each file)

<root> is $CLUSTERSIM_PROFILES or ~/.clustersim/profiles unless `--out` says otherwise; `load_profile` looks there.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from calibrate.figures import figures_of, host_figures, power_figures
from calibrate.fit import Fitted, Row, by_family, fit_rows, gather, validation
from calibrate.plan import Plan
from calibrate.runner import node_name
from calibrate.silicon import write_profile as write_yaml
from calibrate.store import ERRORS, Store, write_manifest
from clustersim.cost.measured import Quality
from clustersim.cost.profile import Profile, Provenance, forget_profiles, read_profile
from clustersim.errors import InputError


@dataclass
class Measured:
    """A run, ready to be written."""

    device: str
    name: str
    plan: Plan
    hello: Mapping[str, Any]
    """What the device said of itself."""
    rows: Sequence[Row]
    drifts: Sequence[float]
    contended: bool
    gaps: dict[str, str] = field(default_factory=dict)
    started: str = ""

    @classmethod
    def of(cls, plan: Plan, store: Store, hello: Mapping[str, Any], **rest: Any) -> Measured:
        """Return what a store holds of a plan."""
        sessions = store.sessions()
        started = str(sessions[0].get("started", "")) if sessions else ""
        rows = gather(plan.cases, store.samples())
        return cls(plan=plan, hello=hello, rows=rows, drifts=store.drifts(), started=started, **rest)


def quality_of(measured: Measured) -> Quality:
    """Return what speaks for and against the rows."""
    flags = [row.flags for row in measured.rows]
    total = max(len(flags), 1)
    names = sorted({flag for row in flags for flag in row})
    return Quality(
        contended=measured.contended,
        throttled=any("throttled" in row for row in flags),
        steady=sum("unsteady" in row for row in flags) <= total / 10,
        canary_drift_frac=float(f"{max(measured.drifts, default=0.0):.4g}"),
        coverage_frac=len(measured.rows) / max(len(measured.plan.cases), 1),
        num_flagged={name: sum(name in row for row in flags) for name in names},
    )


def tool_version() -> str:
    """Return clustersim's version."""
    try:
        return version("clustersim")
    except PackageNotFoundError:
        return "unknown"


def build(measured: Measured) -> tuple[Profile, list[Fitted]]:
    """Fit everything; raises InputError where nothing can be fitted."""
    now = datetime.now(UTC)
    date = now.date().isoformat()
    found = figures_of(measured.rows, measured.hello, measured.device, date)
    if found is None:
        raise InputError("nothing to fit: no operator with FLOPs, or none with bytes, was measured")
    figures, reference = found
    gaps = dict(measured.gaps)
    fits: dict[str, dict[str, Fitted]] = {}
    for family, dtypes in by_family(measured.rows).items():
        for dtype, rows in dtypes.items():
            fitted = fit_rows(family, dtype, rows, reference, f"tables/{table_name(family, dtype)}")
            if isinstance(fitted, str):
                gaps[f"{family} {dtype}"] = f"not fitted: {fitted}"
            else:
                fits.setdefault(family, {})[dtype] = fitted
    each = [fitted for dtypes in fits.values() for fitted in dtypes.values()]
    machine = {name: str(value) for name, value in measured.hello.get("provenance", {}).items()}
    machine |= {"clustersim": tool_version(), "host": node_name()}
    profile = Profile.model_validate(
        {
            "schema": 1, "device": measured.device, "name": measured.name, "evidence": "measured",
            "provenance": Provenance(
                package=f"clustersim {tool_version()} calibrate", license="that of whoever measured", engine="torch",
                engine_version=machine.get("torch", ""), date=date, num_rows=len(measured.rows),
                tables=[f"tables/{name}" for name in tables(measured.rows)],
                machine=machine, plan=measured.plan.name, plan_hash=measured.plan.hash, started=measured.started,
                ended=now.isoformat(timespec="seconds"),
            ),
            "fits": {
                family: {dtype: fitted.fit for dtype, fitted in dtypes.items()} for family, dtypes in fits.items()
            },
            "tables": {
                family: {dtype: f"tables/{table_name(family, dtype)}" for dtype in dtypes}
                for family, dtypes in by_family(measured.rows).items()
            },
            "device_figures": figures, "host": host_figures(measured.rows, date),
            "power": power_figures(measured.rows, date), "gaps": gaps, "quality": quality_of(measured),
            "validation": validation(each), "unvalidated": True,
        }
    )  # fmt: skip
    return profile, each


def table_name(family: str, dtype: str) -> str:
    """Return the file of a family's rows."""
    return f"{family}.{dtype}.parquet"


def tables(rows: Sequence[Row]) -> dict[str, pd.DataFrame]:
    """Return a frame of rows by file: a family of the cost model, or a benchmark, and a data type."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        work, summary = row.planned.work, row.summary
        line = {
            "op": row.case.op, "cache": row.case.cache, **row.case.shape,
            "flops": work.flops, "bytes": work.bytes, "depth": work.depth, "tasks": work.tasks,
            "seconds": summary.median_s, "spread_s": summary.spread_s, "low_s": summary.low_s,
            "high_s": summary.high_s, "count": summary.num_samples, "runs": summary.num_runs,
            "outliers": summary.num_outliers, "clock": row.runs[0].clock, "flags": " ".join(row.flags),
        }  # fmt: skip
        name = table_name(row.planned.family or row.case.bench, row.case.dtype)
        grouped.setdefault(name, []).append(line)
    return {name: pd.DataFrame(lines) for name, lines in sorted(grouped.items())}


def raw_tables(store: Store) -> dict[str, pd.DataFrame]:
    """Return a frame of every sample ever taken by benchmark, discarded attempts and outliers included."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for each in store.all_samples():
        same = {
            "key": each.case.key, "op": each.case.op, "dtype": each.case.dtype, "cache": each.case.cache,
            **each.case.shape, "path": each.case.path, "rank": each.rank, "node": each.node,
            "repetition": each.repetition, "clock": each.clock, "calls": each.calls_per_sample,
            "steady": each.steady, "flags": " ".join(each.flags),
            **{f"note_{name}": value for name, value in each.notes.items()},
        }  # fmt: skip
        lines = grouped.setdefault(each.case.bench, [])
        lines += [{**same, "seq": seq, "seconds": seconds} for seq, seconds in enumerate(each.seconds)]
    return {f"{bench}.parquet": pd.DataFrame(lines) for bench, lines in sorted(grouped.items())}


def write_folder(profile: Profile, measured: Measured, store: Store, root: Path) -> Path:
    """Write `root`/<device>/<name>/ at once, in the place of an earlier profile; returns the folder.

    Raises InputError where something that is no profile is in the way, or the place cannot be written.
    """
    target = root / profile.device / profile.name
    if target.exists() and not (target / "profile.yaml").exists():
        raise InputError(f"{target} exists and is no profile: give another --name or --out")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{profile.name}.", dir=target.parent) as scratch:
            made = write_yaml(profile, Path(scratch)).parent
            for folder, frames in (("tables", tables(measured.rows)), ("samples", raw_tables(store))):
                (made / folder).mkdir()
                for name, frame in frames.items():
                    frame.to_parquet(made / folder / name, index=False)
            errors = store.folder / ERRORS
            (made / ERRORS).write_bytes(errors.read_bytes() if errors.exists() else b"")
            (made / "plan.json").write_text(
                json.dumps(measured.plan.as_dict(), indent=1) + "\n", encoding="utf-8"
            )
            write_manifest(made)
            read_profile(made / "profile.yaml")
            _swap(made, target, Path(scratch))
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror}") from None
    forget_profiles()
    return target


def _swap(made: Path, target: Path, scratch: Path) -> None:
    """Put `made` in the place of `target`; the old one goes with the scratch folder, and comes back on failure."""
    old = scratch / "old"
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(made, target)
    except OSError:
        if old.exists():
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)
