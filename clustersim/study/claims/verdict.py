"""From an answer to a verdict. These rules are all there is: no file says its own verdict.

1. The answer is what was said, and the check assumes nothing in the claim's favour: holds.
2. It is under the check's own assumptions (`assumes`), or under one that the claim does not state (`under`): holds
   under stated assumptions.
3. Otherwise: does not hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from clustersim.errors import InputError
from clustersim.study.claims.claim import Said
from clustersim.study.claims.formula import quantity

Ruling = Literal["holds", "holds under stated assumptions", "does not hold"]


@dataclass(frozen=True)
class Verdict:
    """The ruling, and the assumptions that it rests on."""

    ruling: Ruling
    assumptions: tuple[str, ...] = ()


def agrees(said: Said, answer: Any) -> bool:
    """Whether an answer (a quantity) lies where the claim says; raises InputError for one of another dimension."""
    import pint

    try:
        if said.value is not None:
            value = quantity(said.value)
            low, high = sorted((value / said.factor, value * said.factor))
            return bool(low <= answer <= high)
        above = said.low is None or bool(answer >= quantity(said.low))
        return above and (said.high is None or bool(answer <= quantity(said.high)))
    except pint.DimensionalityError:
        raise InputError(f"the answer is in {answer.units or 'no unit'}, what was said is not") from None


def judge(said: Said, answer: Any, assumes: Sequence[str], otherwise: Sequence[tuple[str, Any]]) -> Verdict:
    """Return the verdict; `otherwise` holds the answers under assumptions that the claim does not state."""
    if agrees(said, answer):
        return Verdict("holds under stated assumptions", tuple(assumes)) if assumes else Verdict("holds")
    kept = [assuming for assuming, other in otherwise if agrees(said, other)]
    if kept:
        return Verdict("holds under stated assumptions", (*assumes, " or ".join(kept)))
    return Verdict("does not hold")
