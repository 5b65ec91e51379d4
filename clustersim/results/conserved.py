"""What every run keeps, checked each time that one is summarised: a result that breaks it is not given out.

requests    every one that was sent is unfinished, finished, rejected, cancelled, shed or lost
tokens      made in steps = those of requests that finished, those that the cancelled had made, those made in vain
time        nothing begins before its cause, or ends before it begins
KV          the blocks held are none too few and none more than there are; of no prompt more is cached than there is

A few passes over arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from clustersim.errors import InternalError
from clustersim.records import CANCELLED, FINISHED, STATUS, WAITING, Floats, RequestRecords
from clustersim.scenario.plan import DeploymentPlan

#: In the order in which they happen.
_TIMES = ("arrival_s", "entered_s", "scheduled_s", "first_token_s", "first_answer_s", "finish_s")
_COUNTS = (
    "input_tokens",
    "thinking_tokens",
    "answer_tokens",
    "cached_tokens",
    "num_preemptions",
    "lost_tokens",
)
#: Sums of floats that ought to be equal, relative.
_ROUNDING = 1e-9


def check_conserved(
    records: RequestRecords,
    runs: Mapping[str, Floats],
    plans: Sequence[DeploymentPlan],
    first_replica: Sequence[int],
) -> None:
    """Raise InternalError where the records of a run contradict themselves."""
    _requests(records)
    _order(records)
    for name, column in runs.items():
        _none(column < 0, f"{name} of a run is negative", column)
    _none(runs["end_s"] < runs["start_s"], "a run ends before it begins", runs["end_s"])
    _tokens(records, runs)
    for plan in plans:
        first = first_replica[plan.index]
        own = (runs["replica"] >= first) & (runs["replica"] < first + plan.max_replicas)
        what = f"a replica of {plan.deployment.name} holds more KV blocks than its {plan.memory.num_blocks}"
        _none(own & (runs["kv_blocks"] > plan.memory.num_blocks), what, runs["kv_blocks"])


def _requests(records: RequestRecords) -> None:
    status = records.column("status")
    known = np.bincount(np.clip(status, -1, len(STATUS)) + 1, minlength=len(STATUS) + 2)[1:-1]
    if known.sum() != records.num:
        raise InternalError(f"of {records.num} requests {known.sum()} are accounted for")
    sent = np.isfinite(records.column("arrival_s"))
    _none(~sent & (status != WAITING), "a request ended that was never sent", status)
    done = status == FINISHED
    for name in ("first_token_s", "finish_s"):
        column = records.column(name)
        _none(done & ~np.isfinite(column), f"a request finished without {name}", column)
    for name in _COUNTS:
        column = records.column(name)
        _none(column < 0, f"{name} of a request is negative", column)
    cached = records.column("cached_tokens")
    _none(cached > records.column("input_tokens"), "more of a prompt was cached than it has", cached)


def _order(records: RequestRecords) -> None:
    before = records.column(_TIMES[0])
    for name in _TIMES[1:]:
        column = records.column(name)
        _none(column < before, f"{name} of a request lies before what comes before it", column)
        before = np.fmax(column, before)  # what never happened does not count


def _tokens(records: RequestRecords, runs: Mapping[str, Floats]) -> None:
    status = records.column("status")
    output = records.column("thinking_tokens") + records.column("answer_tokens")
    made = float((runs["num_steps"] * runs["batch"] + runs["num_first_tokens"]).sum())
    used = float(
        output[(status == FINISHED) | (status == CANCELLED)].sum() + records.column("lost_tokens").sum()
    )
    under_way = bool((np.isfinite(records.column("scheduled_s")) & (status == WAITING)).any())
    if made < used * (1 - _ROUNDING) or (made > used * (1 + _ROUNDING) and not under_way):
        raise InternalError(f"steps made {made:,.0f} tokens, and requests got {used:,.0f}")


def _none(wrong: NDArray[np.bool_], what: str, values: NDArray[np.float64] | NDArray[np.int64]) -> None:
    """Raise InternalError if anything is wrong, with how often and the first value."""
    if wrong.any():
        raise InternalError(f"{what} ({int(wrong.sum()):,} times, first {values[wrong.argmax()]:g})")
