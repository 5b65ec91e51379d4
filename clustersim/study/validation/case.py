"""A row of measured results as a scenario: its machine, model, engine, formats, layout and load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from clustersim import library
from clustersim.errors import InputError
from clustersim.hardware.node import load_node
from clustersim.models.hf_config import load_model
from clustersim.models.precision import FORMATS
from clustersim.models.spec import ModelSpec
from clustersim.scenario.plan import plan
from clustersim.scenario.schema import Scenario
from clustersim.study.validation.layout import Layout, layout_of
from clustersim.study.validation.loads import Load, load_of
from clustersim.study.validation.mapping import NameRule, ServingRules, first
from clustersim.study.validation.rows import RefusedError, Row

#: Names of the deployments of a case: the one that decodes (and prefills where no other does), and that other.
DECODE, PREFILL = "decode", "prefill"


@dataclass(frozen=True)
class Case:
    """What is simulated for a row."""

    scenario: Scenario
    mean_input_tokens: float
    mean_output_tokens: float
    assumes: tuple[str, ...]
    """What the row leaves open and is filled in."""


def case_of(row: Row, rules: ServingRules, engine: str | None = None) -> Case:
    """Return the case of a row, under its own engine or another; raises RefusedError with the reason if it has none."""
    assumes: list[str] = []
    node = _named("nodes", "gpu", row, rules.nodes, assumes)
    model = _model(row, rules, assumes)
    engine = engine or _named("engines", "engine", row, rules.engines, assumes)
    precision = _precision(row, rules, assumes)
    layout, load = layout_of(row, model), load_of(row, rules)
    if load.longest_tokens > model.max_context:
        model = model.model_copy(update={"max_context": load.longest_tokens})
        assumes.append("requests longer than the model was trained for")
    given: dict[str, Any] = {
        "name": "row",
        "warm_up": "none",
        "fleet": [{"site": "us-iowa", "clusters": [{"name": "nodes", "node": node, "count": _nodes(node, layout)}]}],
        "deployments": [],
        "workloads": [{**load.workload, "to": DECODE}],
    }  # fmt: skip
    common: dict[str, Any] = {"model": model, "on": "nodes", "precision": precision, "serving_engine": engine}
    for name, pool in ((DECODE, layout.decode), (PREFILL, layout.prefill)):
        if pool is not None:
            deployment = {"name": name, "replicas": pool.replicas, "parallelism": dict(pool.parallelism)}
            given["deployments"].append({**common, **deployment, "scheduler": dict(load.scheduler)})
    if layout.prefill is not None:
        given["deployments"][0]["prefill_by"] = PREFILL
    if row.load_kind == "offline_all_at_once":
        given["deployments"][0]["scheduler"]["max_num_seqs"] = _never_evicted(given, load)
    assumed = tuple(dict.fromkeys([*assumes, *layout.assumes, *load.assumes]))
    return Case(_valid(given), load.mean_input_tokens, load.mean_output_tokens, assumed)


def _named(
    shelf: str, column: str, row: Row, rules: tuple[NameRule, ...], assumes: list[str]
) -> str:  # fmt: skip
    """Return the library's name for what stands in a column: as a rule has it, or the name itself."""
    name: str = getattr(row, column)
    rule = first(rules, row)
    if rule is not None:
        _assume(rule.assumes, assumes)
        return rule.use
    if name in library.names(shelf):
        return name
    raise RefusedError(f'{column} "{name}" is not known: clustersim list {shelf}')


def _model(row: Row, rules: ServingRules, assumes: list[str]) -> ModelSpec:
    own = rules.own_models
    rule = first(rules.models, row)
    if rule is not None:
        _assume(rule.assumes, assumes)
        return own[rule.use] if rule.use in own else load_model(rule.use)
    name = row.model.rsplit("/", 1)[-1].lower()
    if name in library.names("models"):
        return load_model(name)
    raise RefusedError(f'model "{row.model}" is not known: clustersim list models')


def _precision(row: Row, rules: ServingRules, assumes: list[str]) -> dict[str, str]:
    weights = first(rules.formats, row)
    if weights is None:
        raise RefusedError(f'precision "{row.precision}" is not known')
    _assume(weights.assumes, assumes)
    if row.kv_precision in FORMATS:
        return {**weights.use, "kv_cache": row.kv_precision}
    cache = first(rules.kv_cache, row)
    if cache is None:
        raise RefusedError(f'kv_precision "{row.kv_precision}" is not known')
    _assume(cache.assumes, assumes)
    return {**weights.use, "kv_cache": cache.use}


def _assume(text: str, assumes: list[str]) -> None:
    if text:
        assumes.append(text)


def _nodes(node: str, layout: Layout) -> int:
    """Return how many nodes hold every replica."""
    return -(-layout.num_accelerators // load_node(node).count)


def _never_evicted(given: Mapping[str, Any], load: Load) -> int:
    """Return how many sequences fit to their ends: TensorRT-LLM's scheduler admits no more (GUARANTEED_NO_EVICT)."""
    deployment, *others = given["deployments"]
    one = {**deployment, "scheduler": {**load.scheduler, "max_num_seqs": 1}}
    try:
        memory = plan(_valid({**given, "deployments": [one, *others]}))[0].memory
    except InputError as error:
        raise RefusedError(reason(error)) from None
    each = load.longest_tokens * memory.kv_bytes_per_token + memory.window_bytes
    fit = int((memory.kv_bytes + memory.window_bytes) // each)
    if fit < 1:
        raise RefusedError("not one request fits the KV cache that is left")
    return min(int(load.scheduler["max_num_seqs"]), fit)


def _valid(given: Mapping[str, Any]) -> Scenario:
    try:
        return Scenario.model_validate(given)
    except ValidationError as error:
        first_problem = error.errors(include_url=False)[0]
        raise RefusedError(first_problem["msg"].removeprefix("Value error, ")[:120]) from None


def reason(error: InputError) -> str:
    """Return the first problem of an error, without where, in one line."""
    return error.problems[0].what.splitlines()[0][:120]
