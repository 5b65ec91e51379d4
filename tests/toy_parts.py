"""Random settings for toys: parts of every registered kind, and times of which no two are made equal."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

import numpy as np
from pydantic import ValidationError

from clustersim.kinds import Part, Value, kinds
from clustersim.serving.autoscalers.scheduled import Scheduled

#: Times that do not add up to one another, few enough that their texts are read once: 10 us to 10 s.
_TIMES = np.sort(np.exp(np.random.default_rng(7).uniform(np.log(1e-5), np.log(10), 900)))


def seconds(rng: np.random.Generator, low: float, high: float) -> str:
    """Return a time in between; never the one of another call but by a rare chance."""
    first, last = bisect_left(_TIMES, low), bisect_right(_TIMES, high)
    return f"{_TIMES[rng.integers(first, last)]:.12f} s"


def part(rng: np.random.Generator, family: str, scale: float = 1.0, **changes: int) -> Any:
    """Return a part of any kind of a family: an example, its times scaled, with changes to fields that it has."""
    kind = kinds(family)[str(rng.choice(list(kinds(family))))]
    example: dict[str, Any] = kind.examples[rng.integers(len(kind.examples))]
    own = {name: value for name, value in changes.items() if name in kind.model_fields}
    try:
        made = kind.model_validate({**example, **own})
    except ValidationError:  # the changes do not go with the example
        made = kind.model_validate(example)
    return scaled(made, scale)


def scaled(value: Any, scale: float) -> Any:
    """Return a value with all its times multiplied, and all its rates divided."""
    if isinstance(value, tuple):
        return tuple(scaled(each, scale) for each in value)
    if not isinstance(value, Value):
        return value
    changes = {}
    for name in type(value).model_fields:
        given = getattr(value, name)
        if isinstance(given, float) and name.endswith("_per_s"):
            changes[name] = given / scale
        elif isinstance(given, float) and name.endswith("_s"):
            changes[name] = given * scale
        elif isinstance(given, Value | tuple):
            changes[name] = scaled(given, scale)
    return value.model_copy(update=changes)


def scaler(rng: np.random.Generator, most: int) -> Part:
    """Return an autoscaler that looks every few steps.

    A schedule that looks ahead may hold its most for ever: others can reclaim what it has.
    """
    made = part(rng, "autoscaler", max_replicas=most, min_replicas=int(rng.integers(0, 2)),
                priority=int(rng.integers(0, 4)))  # fmt: skip
    if isinstance(made, Scheduled):
        made = made.model_copy(update={"priority": 4})
    return scaled(made, float(rng.uniform(0.005, 0.08)) / made.interval_s)


def failure(rng: np.random.Generator) -> dict[str, Any]:
    """Return a failure of any kind, at times or at random."""
    name = str(rng.choice(list(kinds("failure"))))
    example: Any = kinds("failure")[name].examples
    more = {key: value for key, value in example[rng.integers(len(example))].items()
            if key not in ("at", "mtbf", "repair")}  # fmt: skip
    when: dict[str, Any] = {"at": [seconds(rng, 0.005, 0.4) for _ in range(rng.integers(1, 5))]}
    if rng.random() < 0.3:  # so that all accelerators of a replica are whole together for most of the time
        when, more["repair"] = {"mtbf": seconds(rng, 2, 8)}, seconds(rng, 0.01, 0.04)
    return {"kind": name, "repair": seconds(rng, 0.01, 0.3), **when, **more}
