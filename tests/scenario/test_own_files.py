"""References to one's own files: `serving_engine: ./engine.yaml`, a variation on it, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from clustersim import library
from clustersim.errors import InputError
from clustersim.scenario.load import load
from clustersim.scenario.schema import Scenario

SCENARIO = """\
name: small
horizon: 10 s
fleet:
  - site: us-iowa
    clusters:
      - {name: pool, node: hgx-h100}
deployments:
  - name: serve
    model: llama-3.1-8b
    on: pool
    serving_engine: ./specs/engine.yaml
workload:
  name: asks
  arrivals: {kind: poisson, rate: 2 req/s}
  lengths: {kind: fixed, input: 100, answer: 20}
"""
ENGINE = (
    library.find("engines", "vllm-0.12").read_text(encoding="utf-8").replace("name: vllm-0.12", "name: mine")
)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "engine.yaml").write_text(ENGINE, encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


def changed(path: Path, old: str, new: str) -> Path:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def said(path: Path, *settings: str) -> str:
    with pytest.raises(InputError) as caught:
        load(path, settings)
    return str(caught.value)


def test_a_file_is_found_beside_the_scenario_and_written_out_whole(
    mine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path / "specs")
    scenario = load(mine)
    engine = scenario.deployments[0].serving_engine
    assert engine.name == "mine"
    assert engine.model_copy(update={"name": "vllm-0.12"}) == _builtin()
    dump = scenario.model_dump(mode="json")
    (tmp_path / "specs" / "engine.yaml").unlink()
    assert Scenario.model_validate(dump) == scenario, "a resolved scenario stands alone"


def _builtin() -> object:
    from clustersim.cost.host import ServingEngine
    from clustersim.hardware import reference

    return reference.load("engines", ServingEngine, "vllm-0.12")


def test_a_file_may_be_varied(mine: Path) -> None:
    engine = load(mine, ["deployments.serve.serving_engine.block_size=32"]).deployments[0].serving_engine
    assert (engine.name, engine.block_size) == ("mine*", 32)
    changed(mine, "./specs/engine.yaml", "{base: specs/engine.yaml, memory_frac: 0.8}")
    engine = load(mine).deployments[0].serving_engine
    assert (engine.name, engine.memory_frac) == ("mine*", 0.8)


def test_a_file_from_the_command_line_is_looked_for_here(
    mine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    changed(mine, "    serving_engine: ./specs/engine.yaml\n", "")
    monkeypatch.chdir(tmp_path / "specs")
    scenario = load(mine, ["deployments.0.serving_engine=engine.yaml"])
    assert scenario.deployments[0].serving_engine.name == "mine"


def test_a_file_is_relative_to_the_file_that_says_it(mine: Path, tmp_path: Path) -> None:
    child = tmp_path / "specs" / "child.yaml"
    child.write_text("extends: ../mine.yaml\nname: child\n", encoding="utf-8")
    assert load(child).deployments[0].serving_engine.name == "mine"


def test_files_name_files(mine: Path, tmp_path: Path) -> None:
    for shelf, name in (("nodes", "hgx-h100"), ("accelerators", "h100-sxm")):
        text = library.find(shelf, name).read_text(encoding="utf-8")
        text = text.replace(f"name: {name}", f"name: my-{name}").replace(": h100-sxm", ": ./h100-sxm.yaml")
        (tmp_path / "specs" / f"{name}.yaml").write_text(text, encoding="utf-8")
    changed(mine, "node: hgx-h100", "node: specs/hgx-h100.yaml")
    node = load(mine).fleet[0].clusters[0].node
    assert (node.name, node.accelerator.name) == ("my-hgx-h100", "my-h100-sxm")


def test_a_file_that_is_not_there_is_named_with_the_nearest(mine: Path) -> None:
    changed(mine, "engine.yaml", "engin.yaml")
    text = said(mine)
    assert text.startswith(
        f'{mine}:11: deployments.0.serving_engine: no file "./specs/engin.yaml". Did you mean "engine.yaml"?'
    )
    changed(mine, "specs/engin.yaml", "elsewhere/engine.yaml")
    assert said(mine).endswith('deployments.0.serving_engine: no file "./elsewhere/engine.yaml"')


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("overlapped:", "overlaped:", ('no key "overlaped"', '"overlapped"')),
        ("name: mine\n", "", ('"name" is missing',)),
    ],
)
def test_a_mistake_in_the_file_is_placed_in_both(
    mine: Path, tmp_path: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    changed(tmp_path / "specs" / "engine.yaml", old, new)
    text = said(mine)
    assert text.startswith(f"{mine}:11: deployments.0.serving_engine: {tmp_path}/specs/engine.yaml:")
    assert all(word in text for word in words)


def test_a_file_that_is_no_mapping_is_refused(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "specs" / "engine.yaml").write_text("- 1\n", encoding="utf-8")
    assert f"{tmp_path}/specs/engine.yaml:1" in said(mine)
