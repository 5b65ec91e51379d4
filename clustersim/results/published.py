"""A run held against what was published of the system it describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clustersim.errors import InputError, unknown
from clustersim.scenario.published import Published


def against(published: Sequence[Published], metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each published figure: what it is, what the run gave, what was published, and the error.

    A metric without a value (nothing measured, or unbounded) gives None; one that is unknown is an InputError.
    """
    rows = []
    for number, each in enumerate(published):
        value = _look_up(metrics, each.metric, number)
        found = None if value is None else value * each.times
        rows.append(
            {"name": each.name, "metric": each.metric, "found": found, "published_low": each.low,
             "published_high": each.low if each.high is None else each.high,
             "error_frac": None if found is None else each.error_frac(found), "source": each.source}
        )  # fmt: skip
    return rows


def _look_up(metrics: Mapping[str, Any], path: str, number: int) -> float | None:
    node: Any = metrics
    for step in path.split("."):
        if not isinstance(node, Mapping) or step not in node:
            known = node if isinstance(node, Mapping) else ()
            raise InputError(f"published.{number}.metric {path}: {unknown('metric', step, known)}")
        node = node[step]
    if node is None or (isinstance(node, int | float) and not isinstance(node, bool)):
        return node
    raise InputError(f"published.{number}.metric {path}: is no number but {node!r:.40}")
