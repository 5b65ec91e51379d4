"""Every setting in the tables of other stacks' options is one that clustersim takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT

from clustersim.errors import InputError
from clustersim.scenario.load import load_with_plans
from clustersim.scenario.schema import Deployment
from clustersim.workload.workload import Workload
from clustersim.yaml_file import parse_yaml

PAGE = ROOT / "docs/howto/your-serving-stack.md"
FLEET = [{"site": "us-iowa", "clusters": [{"name": "pool", "node": "hgx-b200", "count": 16}]}]
ONE = {"on": "pool", "max_model_len": 8192}
LOAD = {
    "arrivals": {"kind": "poisson", "rate": "1 req/s"},
    "lengths": {"kind": "fixed", "input": 100, "answer": 100},
}
#: Settings are tried on a dense model, on one with experts, and on one that is prefilled elsewhere, in this order.
BASES: list[list[dict[str, Any]]] = [
    [{"name": "it", "model": "llama-3.1-70b", "parallelism": {"tp": 4}, "lora": {"max_loras": 2}, **ONE}],
    [{"name": "it", "model": "deepseek-r1", "parallelism": {"tp": 16, "ep": 16}, **ONE}],
    [{"name": "it", "model": "llama-3.1-70b", "parallelism": {"tp": 4}, "prefill_by": "other", **ONE},
     {"name": "other", "model": "llama-3.1-70b", "parallelism": {"tp": 4}, **ONE}],
]  # fmt: skip


def settings() -> list[str]:
    """Return the code spans of middle columns that set something: `key: value`."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = line.split(" | ")
        if line.startswith("| ") and len(cells) == 3:
            found += re.findall(r"`(\w+: [^`]+)`", cells[1])
    return sorted(set(found))


def write(setting: str, deployments: list[dict[str, Any]], path: Path) -> None:
    """Write a scenario with a setting."""
    ((key, value),) = parse_yaml(setting, "a table").data.items()
    workload: dict[str, Any] = {"to": "it", **LOAD}
    first = dict(deployments[0])
    if key == "workload":
        assert set(value) <= set(Workload.model_fields), setting
        workload |= value
    else:
        assert key in Deployment.model_fields, setting
        first[key] = value
    every = [first, *deployments[1:]]
    if "gateway" in workload:
        workload["to"] = ["it", "second"]
        every.append({**first, "name": "second"})
    scenario = {"name": "a", "horizon": "1 s", "fleet": FLEET, "deployments": every, "workload": workload}
    path.write_text(json.dumps(scenario))


def test_there_are_settings_for_every_stack() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for stack in ("vLLM", "SGLang", "TensorRT-LLM", "Dynamo", "llm-d"):
        assert f"## {stack}\n" in text
    assert len(settings()) > 50


@pytest.mark.parametrize("setting", settings())
def test_a_setting_is_taken(setting: str, tmp_path: Path) -> None:
    refused = []
    for deployments in BASES:
        write(setting, deployments, tmp_path / "it.yaml")
        try:
            load_with_plans(tmp_path / "it.yaml")
        except InputError as error:
            refused.append(str(error))
        else:
            return
    raise AssertionError("\n".join(refused))
