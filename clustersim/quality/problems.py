"""Single problems of a benchmark, as a simulation draws them."""

from __future__ import annotations

from typing import NamedTuple

from clustersim.records import Floats


class Problems(NamedTuple):
    """Problems of a benchmark; two arrays of one shape.

    difficulty: share of problems that are easier, uniform in (0, 1): 0 the easiest, 1 the hardest.
    success: probability that one sample of natural length is right.
    """

    difficulty: Floats
    success: Floats
