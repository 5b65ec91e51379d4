"""What runs give to a check: metrics of simulations, several at a time, and of training jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from clustersim.errors import InputError, unknown
from clustersim.study.claims.claim import Metric, Simulate, Training, TrainingJob
from clustersim.study.claims.formula import quantity
from clustersim.study.replicate import metrics_of

if TYPE_CHECKING:
    from clustersim.study.claims.load import Loaded

#: Claim id -> name of the value -> quantity.
Measured = dict[str, dict[str, Any]]
Done = Callable[[int, int], None]


def measure(claims: Sequence[Loaded], done: Done | None = None, processes: int | None = None) -> Measured:
    """Return all values that runs give; `done(k, of)` after every run.

    Every scenario runs under its own seed, and once, however many claims ask for it.
    """
    found: Measured = {each.claim.id: {} for each in claims}
    simulated = [(each, name) for each in claims for name in each.scenarios]
    trained = [(each, name) for each in claims if isinstance(each.claim.check, Training)
               for name in each.claim.check.jobs]  # fmt: skip
    different = {each.scenarios[name].model_dump_json(): each.scenarios[name] for each, name in simulated}
    total = len(different) + len(trained)
    every = metrics_of(
        [(scenario, scenario.seed) for scenario in different.values()],
        (lambda number: done(number, total)) if done else None,
        processes,
    )
    metrics = dict(zip(different, every, strict=True))
    for each, name in simulated:
        check = each.claim.check
        assert isinstance(check, Simulate)
        result = metrics[each.scenarios[name].model_dump_json()]
        found[each.claim.id] |= _picked(check.runs[name].metrics, partial(look_up, result))
    for number, (each, name) in enumerate(trained, start=1):
        check = each.claim.check
        assert isinstance(check, Training)
        found[each.claim.id] |= _trained(check.jobs[name])
        if done:
            done(len(different) + number, total)
    return found


def look_up(metrics: Mapping[str, Any], path: str) -> float:
    """Return a number among metrics by its dotted path; raises InputError with the nearest names."""
    node: Any = metrics
    for step in path.split("."):
        if not isinstance(node, Mapping) or step not in node:
            known = node if isinstance(node, Mapping) else ()
            raise InputError(unknown("metric", step, known, "docs/background/metrics.md"))
        node = node[step]
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise InputError(f"{path} has no value here ({node}); use a metric that is a number in this run")
    return float(node)


def _trained(job: TrainingJob) -> dict[str, Any]:
    from clustersim.economics.prices.published import TcoNeocloud
    from clustersim.training.layout import TrainingCluster
    from clustersim.training.run import Pretraining

    run = Pretraining(
        spec=job.model, tokens=job.tokens, site=job.site, price=TcoNeocloud(), seq_len=job.seq_len,
        cluster=TrainingCluster(node=job.node, num_accelerators=job.num_accelerators),
        batch_tokens=job.batch_tokens, recipe=job.recipe, layout=job.layout,
    ).run()  # fmt: skip

    def attribute(path: str) -> float:
        node: Any = run
        for step in path.split("."):
            known = [name for name in dir(node) if not name.startswith("_")]
            if step not in known:
                raise InputError(unknown("figure of a training run", step, known))
            node = getattr(node, step)
        if not isinstance(node, int | float):
            raise InputError(f"{path} is not a number here ({type(node).__name__})")
        return float(node)

    return _picked(job.metrics, attribute)


def _picked(metrics: Mapping[str, Metric], value: Callable[[str], float]) -> dict[str, Any]:
    return {
        name: quantity(value(each.metric)) * quantity(1 if each.unit == "1" else f"1 {each.unit}")
        for name, each in metrics.items()
    }
