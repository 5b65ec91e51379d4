"""The result of a validation: rows, predictions, refusals, and their errors overall and by group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from clustersim.study.validation.errors import GROUPS, Scored, beyond_the_roofline, by, errors_of, score
from clustersim.study.validation.predictions import Prediction, Refused


@dataclass(frozen=True)
class ServingValidation:
    """Predictions of the rows of a table of measured serving results."""

    predictions: Sequence[Prediction]
    refused: Sequence[Refused]

    @property
    def rows_total(self) -> int:
        """Rows of the table, after the filter."""
        return len(self.predictions) + len(self.refused)

    @property
    def rows_simulated(self) -> int:
        """Rows with a prediction."""
        return len(self.predictions)

    @cached_property
    def _scored(self) -> tuple[list[Scored], float]:
        return score(self.predictions)

    @property
    def scored(self) -> list[Scored]:
        """The predictions with their errors."""
        return self._scored[0]

    @property
    def constant(self) -> float:
        """What multiplies the roofline's times."""
        return self._scored[1]

    @property
    def num_beyond_the_roofline(self) -> int:
        """Rows that were measured faster than the bare roofline allows; they stay in the errors."""
        return sum(map(beyond_the_roofline, self.predictions))

    @property
    def assumptions(self) -> list[tuple[str, int]]:
        """What rows leave open and is filled in, and how many rows rest on it."""
        return Counter(text for each in self.predictions for text in each.assumes).most_common()

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """Why rows were refused, and how many."""
        return Counter(each.reason for each in self.refused).most_common()

    def grouped(self, name: str) -> dict[str, list[Scored]]:
        """Return the scored rows by source, engine, gpu or model."""
        of = GROUPS[name]
        return by(self.scored, lambda each: of(each.row))

    def as_json(self) -> dict[str, Any]:
        """Return what --json writes: errors by the names of the table's metrics, groups, and reasons."""
        return {
            "rows_total": self.rows_total,
            "rows_simulated": self.rows_simulated,
            "metrics": _table(self.scored, lambda each: each.row.metric),
            "quantities": _table(self.scored, lambda each: each.prediction.metric.quantity),
            "groups": {
                name: {
                    group: _table(rows, lambda each: each.row.metric)
                    for group, rows in self.grouped(name).items()
                }
                for name in GROUPS
            },
            "refused": dict(self.reasons),
            "assumed": dict(self.assumptions),
            "baseline_constant": self.constant,
            "rows_beyond_the_roofline": self.num_beyond_the_roofline,
        }


def _table(scored: Sequence[Scored], key: Callable[[Scored], str]) -> dict[str, dict[str, float]]:
    found = {}
    for name, rows in by(scored, key).items():
        errors = errors_of(rows)
        found[name] = {
            "n": errors.n,
            "median_ape_pct": errors.median_ape_pct,
            "p90_ape_pct": errors.p90_ape_pct,
            "baseline_median_ape_pct": errors.baseline_median_ape_pct,
        }
    return found
