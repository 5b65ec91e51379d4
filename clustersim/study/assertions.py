"""`--assert 'p99_ttft_ms<2000'`: conditions on metrics, for use in scripts and CI."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from clustersim.errors import InputError, unknown

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {
        "<=": operator.le,
        ">=": operator.ge,
        "<": operator.lt,
        ">": operator.gt,
        "==": operator.eq,
        "!=": operator.ne,
    }
)
_FORM = re.compile(r"^\s*([A-Za-z0-9_.-]+?)\s*(<=|>=|==|!=|<|>)\s*(\S+)\s*$")


@dataclass(frozen=True)
class Assertion:
    """One condition: metric, comparison, and the number or word it is compared with."""

    text: str
    metric: str
    compare: str
    value: float | str

    def failure(self, metrics: Mapping[str, Any]) -> str | None:
        """Return why the condition does not hold, None if it does; raises InputError for an unknown metric."""
        found = _look_up(metrics, self.metric)
        if found is None:
            return f"{self.text}: {self.metric} has no value (unbounded, or nothing to measure)"
        if isinstance(found, str) != isinstance(self.value, str):
            raise InputError(
                f"--assert '{self.text}': {self.metric} is {found!r}, which cannot be compared so"
            )
        if _COMPARE[self.compare](found, self.value):
            return None
        return f"{self.text}: {self.metric} is {found if isinstance(found, str) else format(found, '.6g')}"


def parse(text: str) -> Assertion:
    """Return the condition that `text` states; raises InputError for any other form."""
    match = _FORM.match(text)
    if not match:
        raise InputError(f"--assert '{text}': write it like 'p99_ttft_ms<2000' or 'regime==STABLE'")
    metric, compare, value = match.groups()
    try:
        return Assertion(text, metric, compare, float(value))
    except ValueError:
        if compare not in ("==", "!="):
            raise InputError(f"--assert '{text}': \"{value}\" is not a number") from None
        return Assertion(text, metric, compare, value)


def _look_up(metrics: Mapping[str, Any], name: str) -> Any:
    node: Any = metrics
    if name in metrics:
        return metrics[name]
    for step in name.split("."):
        if not isinstance(node, Mapping) or step not in node:
            raise InputError(f"--assert: {_unknown_metric(metrics, name)}")
        node = node[step]
    return node


def _unknown_metric(metrics: Mapping[str, Any], name: str) -> str:
    every = metrics.get("deployments", {})
    each = [f"deployments.{deployment}.{name}" for deployment, values in every.items() if name in values]
    if each:
        return f"{name} is not one number for several deployments; name one: {', '.join(each)}"
    return unknown(
        "metric", name, [key for key, value in metrics.items() if not isinstance(value, Mapping | list)]
    )
