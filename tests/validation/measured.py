"""Rows of measured results for tests, and the table beside the repository where there is one."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from clustersim.study.validation.rows import COLUMNS, Row

TABLE = Path(__file__).parents[3] / "shared" / "validation" / "serving.csv"
NO_TABLE = "the table of measurements is not beside the repository"

_DEFAULTS: Mapping[str, str] = {
    "source": "a table", "engine": "vllm", "engine_version": "0.16.0", "gpu": "H100-SXM-80GB", "num_gpus": "1",
    "tp": "1", "pp": "1", "ep": "1", "dp": "1", "model": "Llama-3.1-8B", "precision": "bf16", "kv_precision": "bf16",
    "isl": "256", "osl": "64", "load_kind": "concurrency", "load_value": "4", "metric": "tpot_ms", "value": "7.5",
    "unit": "ms", "quality": "A", "group_id": "g", "core": "", "notes": "",
}  # fmt: skip
DISAGGREGATED = (
    "prefill 2x(TP1,EP1)=2 GPUs; decode 1x(TP2,EP2,DPattn)=2 GPUs; lengths uniform in [0.8,1.0]x; "
    "output_tput_per_gpu is per decode GPU"
)


def cells(**changes: str) -> dict[str, str]:
    """Return a row's cells."""
    return {**_DEFAULTS, **changes}


def row(line: int = 2, **changes: str) -> Row:
    """Return a row."""
    given = cells(**changes)
    return Row(line=line, value=float(given.pop("value")), **given)


def table(rows: Iterable[Mapping[str, str]], columns: Sequence[str] = COLUMNS) -> str:
    """Return rows as the text of a CSV."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


#: One run of each kind of load, small; the last is refused.
SMALL = [
    cells(metric="tpot_ms", value="7.5"),
    cells(metric="ttft_ms", value="60"),
    cells(engine="tensorrt-llm", engine_version="0.9.0", precision="fp8", kv_precision="fp8", load_kind="static_batch",
          load_value="8", metric="output_tok_s_per_gpu", value="1500", unit="tok/s/GPU", source="another table"),
    cells(engine="tensorrt-llm", engine_version="1.0", precision="fp8", kv_precision="fp8",
          load_kind="offline_all_at_once", load_value="100", metric="output_tok_s_total", value="15000", unit="tok/s",
          quality="A-"),
    cells(isl="trace(mean 300)", osl="trace(mean 60)", load_kind="arrival_trace",
          load_value="30 req, ShareGPT at 10 req/s", notes="max_num_seqs=64 max_num_batched_tokens=2048",
          metric="e2e_ms_p99", value="1500", quality="B"),
    cells(model="Qwen3.5-397B-A17B", quality="B"),
]  # fmt: skip


def family_of(source: str) -> str:
    """Return a short name of a source."""
    short = source.removeprefix("aiconfigurator silicon_sample: ")
    if short == source:
        return source
    return "gap-analysis " + "/".join(short.split("/")[1:3]) if short.startswith("gap") else "InferenceX"


def half_of(group: str) -> str:
    """Return the half that a group of rows falls in: host constants are fitted on one and tested on the other."""
    return "fit" if hashlib.sha256(group.encode()).digest()[0] % 2 else "test"


def sample(rows: Sequence[Row], most: int) -> list[Row]:
    """Return the rows of the core, and of every source, engine and half up to `most` runs more, spread by a hash."""
    strata: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
    for each in rows:
        strata[family_of(each.source), each.engine, half_of(each.group_id)].add(each.run)
    chosen = {each.run for each in rows if each.core == "1"}
    for runs in strata.values():
        chosen.update(sorted(runs, key=lambda run: hashlib.sha256("|".join(run).encode()).hexdigest())[:most])
    return [each for each in rows if each.run in chosen]
