"""Lengths that were seen together."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import model_validator

from clustersim.errors import InputError, Problem, shortened
from clustersim.kinds import register
from clustersim.text_file import read_text
from clustersim.workload.arrays import MAX_TOKENS, FloatArray
from clustersim.workload.formats import CUT
from clustersim.workload.lengths import Lengths, SampledLengths

_MAX_BYTES = 100e6
_HEADER = ["input", "thinking", "answer"]


@register("lengths")
class JointEmpirical(SampledLengths):
    """Rows of (input, thinking, answer) tokens drawn with replacement, so that their correlation is kept.

    A fourth entry is the row's weight (1 without it). `file` is a CSV with the header
    input,thinking,answer or input,thinking,answer,weight.
    """

    examples: ClassVar = (
        {"kind": "joint_empirical", "rows": [[100, 0, 50], [2000, 9000, 700]]},
        {"kind": "joint_empirical", "rows": [[100, 0, 50, 3], [2000, 9000, 700, 0.5]]},
    )

    kind: Literal["joint_empirical"] = "joint_empirical"
    rows: tuple[tuple[float, ...], ...] | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.rows is None) == (self.file is None):
            raise ValueError("joint_empirical takes either `rows` or `file`")
        if self.rows is not None:
            if not self.rows:
                raise ValueError("`rows` is empty")
            for index, row in enumerate(self.rows):
                if why := _why_not(row):
                    raise ValueError(f"row {index + 1}: {why}")
            if sum(row[3] if len(row) == 4 else 1 for row in self.rows) <= 0:
                raise ValueError("all weights are zero")
        return self

    def sample(self, rng: np.random.Generator, num: int) -> Lengths:
        """See `SampledLengths.sample`; raises InputError for a file that cannot be used."""
        rows = _table(self.rows) if self.rows is not None else _read(self.file or "")
        reached = np.cumsum(rows[:, 3])
        chosen = np.searchsorted(reached, rng.random(num) * reached[-1], side="right")
        return Lengths(*rows[chosen, :3].T.astype(np.int64))


def _why_not(row: tuple[float, ...]) -> str:
    if len(row) not in (3, 4):
        return f"has {len(row)} entries; it takes input, thinking, answer and perhaps a weight"
    if not all(math.isfinite(number) and number <= MAX_TOKENS for number in row):
        return f"holds a number that is not finite, or above {MAX_TOKENS:g}"
    if any(tokens != int(tokens) for tokens in row[:3]):
        return "tokens are whole numbers"
    if row[0] < 1 or row[1] < 0 or row[2] < 1:
        return "input and answer have one token at least, thinking none at least"
    return "a weight is zero or more" if len(row) == 4 and row[3] < 0 else ""


def _table(rows: tuple[tuple[float, ...], ...]) -> FloatArray:
    """Return rows (n, 4) of input, thinking, answer, weight."""
    return np.array([row if len(row) == 4 else (*row, 1.0) for row in rows], dtype=np.float64)


@cache
def _read(file: str) -> FloatArray:
    """Return the rows (n, 4) of a CSV file; raises InputError with the line."""

    def refuse(line: int, what: str) -> InputError:
        return InputError([Problem(f"{file}:{line}", what)])

    header, *lines = read_text(Path(file), _MAX_BYTES, CUT).split("\n")
    if (names := [name.strip() for name in header.split(",")]) not in (_HEADER, [*_HEADER, "weight"]):
        raise refuse(1, "the header must be input,thinking,answer or input,thinking,answer,weight")
    rows = []
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        try:
            row = tuple(float(cell) for cell in line.split(","))
        except ValueError:
            raise refuse(number, f'"{shortened(line)}" is not {len(names)} numbers') from None
        if len(row) != len(names):
            raise refuse(number, f'"{shortened(line)}" is not {len(names)} numbers')
        if why := _why_not(row):
            raise refuse(number, why)
        rows.append(row)
    if not rows or sum(row[3] if len(row) == 4 else 1 for row in rows) <= 0:
        raise refuse(1, "no row with a weight follows the header")
    return _table(tuple(rows))
