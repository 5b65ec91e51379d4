"""Values given by a table of quantiles."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from clustersim.kinds import register
from clustersim.workload.arrays import FloatArray
from clustersim.workload.distributions import Distribution, pairs


def _rising(table: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    if len(table) < 2 or table[0][0] != 0 or table[-1][0] != 1:
        raise ValueError("a quantile table begins at 0 and ends at 1")
    for (share, value), (next_share, next_value) in pairwise(table):
        if next_share <= share or next_value < value:
            raise ValueError(
                f"a quantile table rises; {next_share:g}: {next_value:g} follows {share:g}: {value:g}"
            )
    return table


Table = Annotated[
    tuple[tuple[float, float], ...],
    AfterValidator(_rising),
    BeforeValidator(pairs),
    PlainSerializer(lambda table: {f"{share:g}": value for share, value in table}),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "number"}}),
]


@register("distribution")
class Quantiles(Distribution):
    """The inverse distribution function, linear between the quantiles of a table from 0 to 1."""

    examples: ClassVar = ({"kind": "quantiles", "table": {"0": 4, "0.5": 208, "0.99": 23400, "1": 57284}},)

    kind: Literal["quantiles"] = "quantiles"
    table: Table
    """Quantile: value."""

    def sample(self, rng: np.random.Generator, num: int) -> FloatArray:
        """See `Distribution.sample`."""
        shares, values = np.asarray(self.table, dtype=np.float64).T
        drawn: FloatArray = np.interp(rng.random(num), shares, values)
        return drawn

    def expectation(self) -> float:
        """See `Distribution.expectation`; the area under the table."""
        shares, values = np.asarray(self.table, dtype=np.float64).T
        return float(np.sum(np.diff(shares) * (values[1:] + values[:-1]) / 2))

    def support(self) -> tuple[float, float]:
        """See `Distribution.support`."""
        return self.table[0][1], self.table[-1][1]
