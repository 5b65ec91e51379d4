"""The folder that a run leaves behind: whole, or not at all.

result.json, scenario.yaml, requests.parquet, timeline.parquet, report.html and trace.json depend on the scenario, the
seed and clustersim's version alone. What depends on the machine and the day stands apart, in run.json.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
import sys
import unicodedata
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clustersim.report import whole
from clustersim.report.html import html_pieces
from clustersim.report.trace import trace
from clustersim.report.whole import all_or_nothing
from clustersim.report.yaml_text import yaml_text
from clustersim.results.result import Result
from clustersim.versions import version_of

#: Every file a run may write, in the order in which they are written and listed.
FILES = (
    "report.html", "result.json", "scenario.yaml", "requests.parquet", "timeline.parquet", "tasks.parquet",
    "trace.json", "run.json",
)  # fmt: skip
_SLUG_LENGTH = 60
_RUN_DEPENDENT = ("cpu_s",)


def default_folder(result: Result) -> Path:
    """Return out/<scenario>-<first six digits of a hash of the resolved scenario, seed and number of replications>."""
    slug = file_name(result.scenario.name)
    replications = len(result.metrics.get("replications", {}).get("seeds", [0]))
    text = json.dumps([_resolved(result), replications], sort_keys=True)
    return Path("out") / f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def file_name(text: str) -> str:
    """Return a name as part of a file's: a to z, digits and underscores, at most 60."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")[:_SLUG_LENGTH].strip("_") or "scenario"


def write(result: Result, out: Path) -> list[Path]:
    """Write what `scenario.outputs` asks for into the folder `out` and return the files.

    Everything appears at once, under its name, when the last file is complete. An `out` that an earlier run wrote
    is replaced. Raises InputError if `out` is a file, holds anything else, or cannot be written.
    """
    check_folder(out)
    names = [name for name in FILES if _wanted(result, name)]
    with all_or_nothing(Path(out)) as folder:
        for name in names:
            _WRITERS[name](result, folder / name)
    return [Path(out) / name for name in names]


def result_json(result: Result) -> str:
    """Return the metrics as strict JSON, exact floats, without what differs from run to run."""
    metrics = {name: value for name, value in result.metrics.items() if name not in _RUN_DEPENDENT}
    return strict_json(metrics)


def scenario_yaml(result: Result) -> str:
    """Return the resolved scenario, every figure in it, as YAML that loads to an equal scenario."""
    return resolved_yaml(_resolved(result))


def resolved_yaml(scenario: Mapping[str, Any], file: str = "scenario.yaml") -> str:
    """Return a resolved scenario, given as plain data, as the text of a `file` that runs."""
    head = f"# As clustersim {version_of('clustersim')} resolved it; run it with: clustersim run {file}\n"
    return head + yaml_text(scenario)


def _resolved(result: Result) -> dict[str, Any]:
    return result.scenario.model_copy(update={"seed": result.seed}).model_dump(
        mode="json", exclude_unset=True
    )


def _wanted(result: Result, name: str) -> bool:
    outputs = result.scenario.outputs
    optional = {
        "requests.parquet": outputs.requests, "timeline.parquet": outputs.timeline,
        "report.html": outputs.report, "trace.json": outputs.trace,
    }  # fmt: skip
    if name == "tasks.parquet":
        return outputs.requests and not result.tasks.empty
    return optional.get(name, True)


def _run_json(result: Result) -> str:
    packages = ("clustersim", "numpy", "pandas", "pyarrow", "scipy", "simpy")
    return strict_json(
        {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": sys.argv,
            "cpu_s": result.metrics["cpu_s"],
            "python": platform.python_version(),
            "platform": platform.platform(),
            "versions": {name: version_of(name) for name in packages},
        }
    )


def strict_json(value: Any) -> str:
    """Return a value as JSON for people and programs: exact floats, null for what has no value, a line end."""
    return json.dumps(plain(value), indent=1, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Return `value` in what JSON has: NumPy numbers as Python's, and None for nan and infinity."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame, without its index, in the same bytes each time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path, compression="zstd")


def _text(make: Callable[[Result], str]) -> Callable[[Result, Path], None]:
    def write_text(result: Result, path: Path) -> None:
        path.write_text(make(result), encoding="utf-8", newline="\n")

    return write_text


def _page(result: Result, path: Path) -> None:
    path.write_bytes(b"".join(html_pieces(result)))


_WRITERS: Mapping[str, Callable[[Result, Path], None]] = {
    "result.json": _text(result_json),
    "scenario.yaml": _text(scenario_yaml),
    "report.html": _page,
    "trace.json": _text(trace),
    "run.json": _text(_run_json),
    "requests.parquet": lambda result, path: write_parquet(result.requests, path),
    "tasks.parquet": lambda result, path: write_parquet(result.tasks, path),
    "timeline.parquet": lambda result, path: write_parquet(result.timeline, path),
}


def check_folder(out: Path, files: Collection[str] = FILES, always: str = "result.json") -> None:
    """Refuse a folder that cannot be written, or whose replacement would lose something; see whole.check_folder."""
    whole.check_folder(Path(out), files, always)


def write_study(out: Path, texts: Mapping[str, str], frames: Mapping[str, pd.DataFrame]) -> None:
    """Write a study's files, by name, into the folder `out`, all or none."""
    with all_or_nothing(Path(out)) as folder:
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
        for name, frame in frames.items():
            write_parquet(frame, folder / name)
