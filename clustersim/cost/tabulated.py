"""Cost models and step times that were asked for lately: equal ones are one, with the tables that it has filled.

A table says the same whoever asks first, so that sharing changes no result. It spares the replications of a study, and
a run after its check, the tabulation: longer than a short run takes.
"""

from __future__ import annotations

from collections import deque

from clustersim.cost.model import CostModel
from clustersim.cost.step_time import StepTime

_KEPT = 8
_COSTS: deque[CostModel] = deque(maxlen=_KEPT)
_STEP_TIMES: deque[StepTime] = deque(maxlen=_KEPT)


def one_of_equals(made: CostModel) -> CostModel:
    """Return the cost model that is equal to `made` and was here first; that is `made` itself if there is none."""
    for each in _COSTS:
        if each == made:
            return each
    _COSTS.append(made)
    return made


def step_time(cost: CostModel, max_context: int) -> StepTime:
    """Return the step times of a cost model up to so many tokens of context a sequence."""
    for each in _STEP_TIMES:
        if each.cost is cost and each.max_context == max_context:
            return each
    made = StepTime(cost, max_context)
    _STEP_TIMES.append(made)
    return made
