"""What every registered kind of every family keeps to. A new kind is tested here by being registered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import toy
from pydantic import TypeAdapter, ValidationError

from clustersim import simulate
from clustersim.kinds import FAMILIES, OneOf, Part, kinds

EVERY = [(family, kind) for family in FAMILIES for kind in kinds(family)]
EXAMPLES = [
    pytest.param(family, {"kind": kind, **example}, id=f"{family}-{kind}-{number}")
    for family, kind in EVERY
    for number, example in enumerate(kinds(family)[kind].examples)
]
TRACE = "arrival_s,input_tokens,output_tokens\n" + "".join(
    f"{i / 4},{20 + i},{2 * i + 1}\n" for i in range(30)
)


def part(family: str, data: object) -> Part:
    return OneOf(family).validate(data)


@pytest.mark.parametrize(("family", "kind"), EVERY)
def test_it_documents_itself(family: str, kind: str) -> None:
    model = kinds(family)[kind]
    assert model.model_fields["kind"].default == kind
    doc = model.__doc__ or ""
    assert doc.strip().splitlines()[0].endswith((".", ":", ","))
    assert model.__doc__ is not model.__base__.__doc__
    assert model.examples, "at least one example, {} if it needs no settings"


@pytest.mark.parametrize(("family", "data"), EXAMPLES)
def test_its_examples_are_values(family: str, data: dict[str, Any]) -> None:
    value = part(family, data)
    again = part(family, json.loads(json.dumps(value.model_dump(mode="json"))))
    assert again == value
    assert type(again) is type(value)
    assert again.model_dump_json() == value.model_dump_json()
    for name in type(value).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(value, name, None)
    with pytest.raises(ValidationError, match="no_such_setting"):
        part(family, {**data, "no_such_setting": 1})


@pytest.mark.parametrize(("family", "kind"), EVERY)
def test_it_is_in_the_json_schema(family: str, kind: str) -> None:
    schema = TypeAdapter(Any).validate_python(OneOf(family).__get_pydantic_json_schema__(None, None))
    assert [
        each for each in schema["anyOf"] if each.get("properties", {}).get("kind", {}).get("const") == kind
    ]


def test_unknown_kinds_are_answered_with_the_nearest() -> None:
    for family in FAMILIES:
        nearest = next(iter(kinds(family)))
        with pytest.raises(ValueError, match=nearest):
            part(family, {"kind": nearest + "x"})


# ---- each in a small simulation ------------------------------------------------------------------------------


def scenarios(family: str, data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the changes that put a part to work in the toy scenario."""
    replicas = {"replicas": 3}
    if family in ("scheduler", "router"):
        yield {"deployment": {**replicas, family: data}}
    elif family == "admission":
        promise = {"arrivals": {"kind": "all_at_once"}, "slo": {"ttft": "0.2 s"}}
        yield {"deployment": {family: data}, "workload": promise}
        yield {
            "deployment": {**replicas, family: data},
            "workload": {**promise, "tasks": {"strategy": {"kind": "direct"}}},
        }
    elif family == "autoscaler":
        soon = {"provision": "0.1 s", "warm_up": "0.1 s"}
        yield {
            "deployment": {"startup": soon, family: {**data, "interval": "0.5 s", "scale_down_after": "1 s"}}
        }
    elif family == "failure":
        yield {"deployment": replicas, "failures": [{**data, **({"at": ["2 s"]} if "at" in data else {})}]}
    elif family in ("network", "price"):
        yield {"cluster": {family: data}, "deployment": {"parallelism": {"pp": 2, "tp": 8}}}
    elif family == "warm_up":
        yield {"warm_up": data}
    elif family == "arrivals":
        yield {"workload": {"arrivals": data}, "horizon": "10 min"}
    elif family == "lengths":
        yield {"workload": {"lengths": data}}
    elif family == "distribution" and data.get("high", 1000) > 1:
        yield {"workload": {"lengths": {"kind": "independent", "input": data, "answer": 9}}}
    elif family == "speculation":
        yield {"deployment": {"model": "llama-3.1-70b", "parallelism": {"tp": 8}, family: data}}
    elif family == "expert_popularity":
        layout = {"ep": 8, "attention_dp": 8, "redundant_experts": 8}
        yield {"deployment": {"model": "mixtral-8x7b", "parallelism": layout, family: data}}
    elif family == "prefix":
        yield {"workload": {"prefix": data}}
    elif family == "strategy":
        yield {"deployment": replicas, "workload": {"tasks": {"strategy": data, "accuracy": 0.4}}}


SIMULATED = [
    pytest.param(family, changes, id=f"{param.id}")
    for param in EXAMPLES
    for family, data in [param.values]
    for changes in scenarios(family, data)
]


@pytest.mark.parametrize(("family", "changes"), SIMULATED)
def test_every_request_is_accounted_for(family: str, changes: dict[str, Any], tmp_path) -> None:
    workload = dict(changes.get("workload", {}))
    if any(part.get("kind") == "trace" for part in workload.values()):
        (tmp_path / "trace.csv").write_text(TRACE)
        workload["trace"] = {"path": str(tmp_path / "trace.csv")}
    workload.setdefault("num_requests", 30)
    result = simulate(toy.scenario(**{**changes, "workload": workload}))
    rows = result.requests
    assert len(rows) == result["num_requests"] > 0
    may = {"strategy": {"cancelled"}, "admission": {"shed"}}.get(family, set())
    assert set(rows["status"].unique()) <= {"finished", "rejected"} | may
    if family == "admission":
        assert result["tasks_ended" if "tasks" in workload else "num_requests"] == 30
        shed = rows["status"] == "shed"
        assert result.metrics.get("shed", 0) == shed.sum()
        assert rows["scheduled_s"][shed].isna().all()
        assert rows["finish_s"][shed].notna().all()
    assert (rows["finish_s"] >= rows["arrival_s"])[rows["status"] == "finished"].all()
    assert (rows["status"] == "rejected").sum() == result["failed"]
    if family == "strategy":
        assert result["num_tasks"] == result["tasks_ended"] == len(result.tasks) == 30
    start, end = result["window_s"]
    assert 0 <= start <= end
    json.dumps(result.metrics, allow_nan=False)


def test_each_family_that_a_simulation_uses_was_simulated() -> None:
    assert {param.values[0] for param in SIMULATED} == set(FAMILIES)
