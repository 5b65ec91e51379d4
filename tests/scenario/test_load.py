"""Scenarios that are right: what `extends`, `use`, `--set` and `workload` make of them; round trips."""

from __future__ import annotations

from pathlib import Path

import pytest

import clustersim as cs
from clustersim import library
from clustersim.scenario.json_schema import json_schema
from clustersim.scenario.load import load, parse
from clustersim.scenario.plan import plan
from clustersim.scenario.schema import Scenario
from clustersim.yaml_file import parse_yaml

GOOD = """\
name: small
horizon: 10 s
fleet:
  - site: us-iowa
    clusters:
      - {name: pool, node: hgx-h100, count: 2}
      - {name: spare, node: hgx-a100}
deployments:
  - {name: first, model: llama-3.1-8b, on: pool, replicas: 2}
  - {name: second, model: qwen3-8b, on: spare, router: round_robin}
workloads:
  - name: asks
    to: first
    arrivals: {kind: poisson, rate: 2 req/s}
    lengths: {kind: fixed, input: 100, answer: 20}
  - {use: chat_poisson, to: second, arrivals: {rate: 3 req/s}}
"""


def parsed(text: str, *settings: str) -> Scenario:
    return parse(parse_yaml(text, "mine.yaml"), settings)


# ---- extends -------------------------------------------------------------------------------------------------------


def test_a_child_overrides_what_it_names_and_keeps_the_rest(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(GOOD)
    child = tmp_path / "child.yaml"
    child.write_text("extends: base.yaml\nname: child\nhorizon: 1 min\nengine: {mode: stepwise}\n")
    base, mine = load(tmp_path / "base.yaml"), load(child)
    assert mine.name == "child"
    assert mine.horizon_s == 60
    assert mine.engine.mode == "stepwise"
    assert mine.deployments == base.deployments


def test_a_list_replaces_a_list(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(GOOD)
    child = tmp_path / "child.yaml"
    child.write_text("extends: base.yaml\nworkloads:\n  - {use: chat_poisson, to: first}\n")
    assert [workload.name for workload in load(child).workloads] == ["chat_poisson"]


def test_a_grandparent_counts_too(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text("extends: a.yaml\nseed: 5\nhorizon: 20 s\n")
    (tmp_path / "c.yaml").write_text("extends: b.yaml\nhorizon: 30 s\n")
    mine = load(tmp_path / "c.yaml")
    assert (mine.seed, mine.horizon_s, mine.name) == (5, 30, "small")


def test_a_built_in_can_be_extended_from_anywhere(tmp_path: Path) -> None:
    child = tmp_path / "child.yaml"
    child.write_text("extends: chat_h100\nname: mine\nworkload: {use: chat_poisson}\n")
    assert load(child).fleet == load("chat_h100").fleet


# ---- use, workload -------------------------------------------------------------------------------------------------


def test_use_fills_in_and_what_is_said_prevails() -> None:
    chat = parsed(GOOD).workloads[1]
    built_in = library.find("workloads", "chat_poisson").read_text()
    assert chat.name == "chat_poisson"
    assert chat.arrivals is not None
    assert chat.arrivals.model_dump() == {"kind": "poisson", "rate": "3 req/s"}
    assert "median: 1020" in built_in
    assert chat.lengths is not None
    assert chat.lengths.model_dump()["input"]["median"] == 1020


def test_a_part_of_another_kind_replaces_and_does_not_merge() -> None:
    text = GOOD.replace("arrivals: {rate: 3 req/s}", "arrivals: {kind: closed_loop, concurrency: 8}")
    assert parsed(text).workloads[1].arrivals.model_dump(exclude_unset=True) == {  # type: ignore[union-attr]  # given
        "kind": "closed_loop",
        "concurrency": 8,
    }


def test_one_workload_may_be_written_alone() -> None:
    head, tail = GOOD.split("workloads:\n")
    body = tail.split("  - {use")[0].replace("  - name", "    name").replace("    ", "  ")
    alone = parsed(head + "workload:\n" + body)
    assert alone.workloads == parsed(GOOD).workloads[:1]


# ---- --set ---------------------------------------------------------------------------------------------------------


def test_settings_by_index_and_by_name() -> None:
    mine = parsed(
        GOOD, "deployments.0.replicas=3", "deployments.second.replicas=1", "workloads.asks.start=1 h"
    )
    assert [deployment.replicas for deployment in mine.deployments] == [3, 1]
    assert mine.workloads[0].start_s == 3600


def test_settings_apply_in_order_and_the_last_wins() -> None:
    assert parsed(GOOD, "horizon=1 s", "horizon=2 s").horizon_s == 2


def test_a_setting_may_be_a_whole_part() -> None:
    mine = parsed(GOOD, "deployments.first.scheduler={kind: chunked_prefill, token_budget: 512}")
    assert mine.deployments[0].scheduler.max_step_tokens == 512


def test_a_setting_below_a_bare_kind_or_name_varies_it() -> None:
    mine = parsed(
        GOOD,
        "deployments.first.scheduler=chunked_prefill",
        "deployments.first.scheduler.token_budget=1024",
        "fleet.0.clusters.pool.node.accelerator=h100-sxm",
        "fleet.0.clusters.pool.node.accelerator.memory_bandwidth=6 TB/s",
    )
    assert mine.deployments[0].scheduler.max_step_tokens == 1024
    chip = mine.fleet[0].clusters[0].node.accelerator
    assert chip.memory_bandwidth_bytes_per_s.value == 6e12
    assert chip.memory_bandwidth_bytes_per_s.evidence == "assumed"
    assert chip.tdp_w.value == 700


def test_the_workload_of_a_scenario_is_set_without_an_index() -> None:
    mine = load("chat_h100", ["workload.arrivals.rate=5 req/s"])
    assert mine.workloads[0].arrivals.model_dump()["rate"] == "5 req/s"  # type: ignore[union-attr]  # it has some


# ---- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", library.names("scenarios"))
def test_every_built_in_scenario_loads_and_can_be_laid_out(name: str, tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("arrival_s,input_tokens,output_tokens\n0,10,20\n")
    settings = [f"workload.trace.path={tmp_path / 'trace.csv'}"] if name == "azure_conversation" else []
    scenario = load(name, settings)
    if name == "cpu_laptop":  # no profile of this machine while tests run
        with pytest.raises(cs.InputError, match="until it is measured: python -m calibrate run"):
            plan(scenario)
    else:
        assert plan(scenario)
    for dumped in (scenario.model_dump(mode="json", exclude_unset=True), scenario.model_dump(mode="json")):
        assert Scenario.model_validate(dumped) == scenario


def test_a_dump_of_what_was_given_is_short_and_means_the_same() -> None:
    scenario = parsed(GOOD)
    given = scenario.model_dump(mode="json", exclude_unset=True)
    assert "engine" not in given
    assert "scheduler" not in given["deployments"][0]
    assert Scenario.model_validate(given) == scenario


def test_with_changes_one_thing_and_leaves_the_original() -> None:
    scenario = parsed(GOOD)
    other = scenario.with_(("deployments.first.replicas", 4), ("horizon", "1 min"))
    assert (other.deployments[0].replicas, other.horizon_s) == (4, 60)
    assert (scenario.deployments[0].replicas, scenario.horizon_s) == (2, 10)
    assert other.workloads == scenario.workloads
    assert scenario.with_() == scenario


def test_with_refuses_what_set_refuses() -> None:
    with pytest.raises(cs.InputError, match="no item"):
        parsed(GOOD).with_(("deployments.third.replicas", 4))


def test_a_scenario_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parsed(GOOD).seed = 3


def test_on_and_no_are_words() -> None:
    document = parse_yaml("on: no\nyes: off\n")
    assert document.data == {"on": "no", "yes": "off"}


def test_a_relative_trace_is_found_beside_its_scenario(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trace.csv").write_text("arrival_s,input_tokens,output_tokens\n0,10,20\n")
    (tmp_path / "mine.yaml").write_text(
        "extends: azure_conversation\nworkload: {name: r, trace: {path: trace.csv}}\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    trace = load(tmp_path / "mine.yaml").workloads[0].trace
    assert trace is not None
    assert trace.path == str(tmp_path / "trace.csv")


def test_the_schema_knows_every_key_of_the_built_ins() -> None:
    properties = json_schema()["properties"]
    for name in library.names("scenarios"):
        keys = set(parse_yaml(library.find("scenarios", name).read_text()).data)
        assert keys <= set(properties), name


# ---- models of one's own -------------------------------------------------------------------------------------------


def test_a_model_of_ones_own_is_named_once(tmp_path: Path) -> None:
    config = library.find("models", "qwen3-8b").read_text()
    (tmp_path / "config.json").write_text(config)
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: own\nhorizon: 1 min\nmodels: {mine: config.json}\n"
        "fleet: [{site: us-iowa, clusters: [{name: c, node: hgx-h100}]}]\n"
        "deployments: [{name: d, model: mine, on: c}]\n"
        "workload: {arrivals: {kind: poisson, rate: 1 req/s}, lengths: {kind: fixed, input: 9, thinking: 0, answer: 9}}\n"
    )
    assert load(file).deployments[0].model.num_layers == 36
    file.write_text(file.read_text().replace("models: {mine", "models: {other: gpt-3-175b, mine"))
    with pytest.raises(cs.InputError, match=r"mine.yaml:3: models.other: no deployment uses this model"):
        load(file)


def test_a_setting_of_a_part_that_is_left_to_its_default_changes_that_part() -> None:
    plain = load(
        "chat_h100",
        ["deployments.0.scheduler.token_budget=64", "deployments.0.serving_engine.step_overhead=1 us"],
    )
    scheduler, engine = plain.deployments[0].scheduler, plain.deployments[0].serving_engine
    assert (scheduler.kind, scheduler.token_budget) == ("chunked_prefill", 64)  # type: ignore[attr-defined]
    assert engine.name == "vllm-v1*"
    assert engine.step_overhead_s.value == 1e-6


def test_a_setting_of_a_part_that_the_used_workload_gives_changes_that_one(tmp_path: Path) -> None:
    """Not the default of the field, which the workload in use replaced."""
    (tmp_path / "mine.yaml").write_text("extends: chat_h100\nworkload: {use: chat_poisson}\n")
    changed = load(tmp_path / "mine.yaml", ["workload.arrivals.rate=3 req/s"])
    assert changed.workloads[0].arrivals.kind == "poisson"  # type: ignore[union-attr]
    assert changed.workloads[0].arrivals.rate_per_s == 3  # type: ignore[union-attr]
