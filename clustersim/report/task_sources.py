"""What the accuracy of tasks rests on: figures with value, range, evidence and source, what is assumed marked so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clustersim.quality.parameters import PARAMETERS
from clustersim.report import words
from clustersim.report.sources import Source
from clustersim.report.tasks import TaskView
from clustersim.workload.strategies import Strategy
from clustersim.workload.verifier import Verifier

#: Numbers of the quality model that chances of success are made with, and what each is.
_NUMBERS = {
    "logit_per_decade_tokens": "logits a tenfold of thinking",
    "saturation_multiple": "natural lengths after which thinking adds nothing",
    "heterogeneity": "how alike problems are (nu)",
}


def sources(view: TaskView) -> list[Source]:
    """Return the figures; none where nobody said how often answers are right, since then nothing rests on them."""
    if view.metrics["accuracy"] is None:
        return []
    return [*_abilities(view), *_numbers(), *_draws(view), *_settings(view.tasks.strategy)]


def sentences(view: TaskView) -> Iterator[str]:
    """Yield what to know of the accuracy before it is believed."""
    known = view.metrics["accuracy_rests_on"]
    if not known:
        return
    each = words.listed([_ability(name, ability) for name, ability in known.items()])
    yield f"{each[0].upper()}{each[1:]}."
    yield "The interval of the tasks' accuracy is that of chance alone."


def _ability(name: str, known: Mapping[str, Any]) -> str:
    limits = known["accuracy_90"]
    band = "" if limits is None else f" [{limits[0] * 100:.0f} to {limits[1] * 100:.0f} %, 90 % band]"
    return (
        f"a plain attempt of {name} is right at {known['accuracy'] * 100:.1f} %{band}, {known['evidence']} "
        f"({known['note']})"
    )


def _abilities(view: TaskView) -> Iterator[Source]:
    for name, known in view.metrics["accuracy_rests_on"].items():
        limits = known["accuracy_90"]
        band = "" if limits is None else f" [{limits[0] * 100:.1f} to {limits[1] * 100:.1f}]"
        value = f"{known['accuracy'] * 100:.1f} %{band}"
        yield Source(name, "accuracy of a plain attempt", value, known["evidence"], known["note"])


def _numbers() -> Iterator[Source]:
    for name, what in _NUMBERS.items():
        figure = PARAMETERS[name]
        value = f"{figure.value:g} [{figure.low:g} to {figure.high:g}]"
        yield Source("quality model", what, value, figure.evidence, figure.source)


def _draws(view: TaskView) -> Iterator[Source]:
    tasks = view.tasks
    rows = (
        ("difficulty_correlation", "correlation of difficulty and length"),
        ("spread", "spread of ln(thinking) between attempts"),
    )
    for name, what in rows:
        yield Source("tasks", what, f"{getattr(tasks, name):g}", "assumed", _origin(tasks, name))


def _settings(part: Strategy | Verifier) -> Iterator[Source]:
    """Yield the shares that a strategy and its parts rest on."""
    thing, rates = (
        ("verifier", ("true_accept", "false_accept"))
        if isinstance(part, Verifier)
        else (words.kind(part), ())
    )
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if isinstance(value, Strategy | Verifier):
            yield from _settings(value)
        elif name in rates or "ssumed" in (field.description or ""):
            yield Source(thing, name.replace("_", " "), f"{value:g}", "assumed", _origin(part, name))


def _origin(part: object, name: str) -> str:
    given = name in getattr(part, "model_fields_set", ())
    return "as given in the scenario" if given else "the default; no measurement found"
