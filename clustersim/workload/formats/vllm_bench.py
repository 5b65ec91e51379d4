"""Results of `vllm bench serve --save-result --save-detailed`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from clustersim.errors import InputError, Problem
from clustersim.workload.arrays import FloatArray
from clustersim.workload.formats import Rows
from clustersim.workload.formats._json import document, number


def matches(head: str) -> bool:
    """Say whether a file that begins with `head` is of this format."""
    keys = ('"input_lens"', '"request_throughput"', '"total_input_tokens"')
    return head.startswith("{") and any(key in head for key in keys)


def read(path: Path) -> Rows:
    """Read input_lens, output_lens and, if given, start_times (s); requests without output are dropped."""
    result = document(path)
    if not isinstance(result, dict) or "input_lens" not in result or "output_lens" not in result:
        what = 'has no "input_lens" and "output_lens"; run the benchmark with --save-detailed'
        raise InputError([Problem(str(path), what)])
    inputs, outputs = _column(path, result, "input_lens"), _column(path, result, "output_lens")
    times = _column(path, result, "start_times") if result.get("start_times") else None
    for name, column in (("output_lens", outputs), ("start_times", times)):
        if column is not None and len(column) != len(inputs):
            what = f"has {len(inputs)} input_lens and {len(column)} {name}"
            raise InputError([Problem(str(path), what)])
    kept = np.flatnonzero(outputs != 0)
    num_failed = len(outputs) - len(kept)
    return Rows(
        place=lambda index: f"{path}: request {int(kept[index]) + 1}",
        arrival_s=None if times is None else times[kept],
        input_tokens=inputs[kept],
        output_tokens=outputs[kept],
        num_dropped={"failed requests (no output tokens)": num_failed} if num_failed else {},
    )


def _column(path: Path, result: dict[str, Any], name: str) -> FloatArray:
    values = result[name]
    if not isinstance(values, list):
        raise InputError([Problem(str(path), f'"{name}" is no list')])
    return np.array([number(v, f"{name}[{i}]", str(path)) for i, v in enumerate(values)], dtype=np.float64)
