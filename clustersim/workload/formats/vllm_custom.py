"""JSONL of `vllm bench serve --dataset-name custom`: prompts without times."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clustersim.errors import InputError, Problem
from clustersim.workload.formats import Rows
from clustersim.workload.formats._json import CHARS_PER_TOKEN, number, objects, tokens_of


def matches(head: str) -> bool:
    """Say whether a file that begins with `head` is of this format."""
    line = head.split("\n", 1)[0]
    return line.startswith("{") and '"prompt"' in line


def read(path: Path) -> Rows:
    """Read lines of prompt (its tokens assumed to be characters / 4) and output_tokens."""
    lines: list[int] = []
    columns: list[tuple[float, float]] = []
    for line, row in objects(path):
        place = f"{path}:{line}"
        if not isinstance(row.get("prompt"), str):
            raise InputError([Problem(place, '"prompt" is no text')])
        output = number(row.get("output_tokens"), "output_tokens", place)
        columns.append((tokens_of(row["prompt"]), output))
        lines.append(line)
    inputs, outputs = np.array(columns, dtype=np.float64).reshape(-1, 2).T
    return Rows(
        place=lambda index: f"{path}:{lines[index]}",
        arrival_s=None,
        input_tokens=inputs,
        output_tokens=outputs,
        notes=(f"input tokens assumed for all requests: characters / {CHARS_PER_TOKEN}",),
    )
