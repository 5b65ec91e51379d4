"""Scenarios that are wrong: each is answered with the place, the key and the mend, and leaves nothing on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from clustersim.cli import cli
from clustersim.errors import InputError
from clustersim.scenario.load import load_with_plans

GOOD = """\
name: small
horizon: 10 s
fleet:
  - site: us-iowa
    clusters:
      - {name: pool, node: hgx-h100, count: 2}
deployments:
  - name: serve
    model: llama-3.1-8b
    on: pool
workloads:
  - name: asks
    arrivals: {kind: poisson, rate: 2 req/s}
    lengths: {kind: fixed, input: 100, answer: 20}
"""


class Case(NamedTuple):
    """`old` in the good scenario becomes `new`; the answer names this line and holds these texts."""

    old: str
    new: str
    line: int
    says: tuple[str, ...]


CASES = {
    "unknown key": Case(
        "    model:", "    replcas: 2\n    model:", 9, ("deployments.0.replcas", 'Did you mean "replicas"')
    ),
    "unknown key at the top": Case("horizon:", "horizn:", 2, ('no key "horizn"', '"horizon"')),
    "unknown kind": Case("kind: poisson", "kind: poison", 13, ('no arrivals "poison"', '"poisson"')),
    "unknown scheduler": Case(
        "    on: pool",
        "    on: pool\n    scheduler: chunked",
        11,
        ('no scheduler "chunked"', "chunked_prefill"),
    ),
    "unknown node": Case(
        "hgx-h100", "hgx-h10", 6, ("fleet.0.clusters.0.node", '"hgx-h100"', "clustersim list nodes")
    ),
    "unknown model": Case(
        "llama-3.1-8b", "llama-3-8b", 9, ('no model "llama-3-8b"', "clustersim list models")
    ),
    "unknown site": Case("us-iowa", "us-iow", 4, ("fleet.0.site", '"us-iowa"')),
    "unknown cluster": Case("on: pool", "on: pol", 10, ('no cluster "pol"', '"pool"')),
    "unknown deployment": Case(
        "  - name: asks", "  - name: asks\n    to: srve", 13, ('no deployment "srve"', '"serve"')
    ),
    "unknown workload": Case(
        "  - name: asks", "  - use: chat_posson", 12, ("workloads.0.use", '"chat_poisson"')
    ),
    "unknown accelerator in a variation": Case(
        "node: hgx-h100",
        "node: {base: hgx-h100, accelerator: {base: h100-sx}}",
        6,
        ('no accelerator "h100-sx"', '"h100-sxm"'),
    ),
    "unknown number format": Case(
        "    on: pool", "    on: pool\n    precision: {weights: fp9}", 11, ('no number format "fp9"',)
    ),
    "negative time": Case("horizon: 10 s", "horizon: -10 s", 2, ("horizon", "above zero", '"1 h"')),
    "zero time": Case("horizon: 10 s", "horizon: 0 s", 2, ("horizon", "above zero")),
    "wrong unit": Case("rate: 2 req/s", "rate: 2 s", 13, ("rate", "is not a rate", '"16 req/s"')),
    "unknown unit": Case("10 s", "10 sek", 2, ("unknown unit", "sek")),
    "missing unit": Case("horizon: 10 s", "horizon: 10", 2, ("has no unit", '"1 h"')),
    "a list for a number": Case("count: 2", "count: [2]", 6, ("fleet.0.clusters.0.count", "integer")),
    "zero nodes": Case("count: 2", "count: 0", 6, ("fleet.0.clusters.0.count", "greater than or equal to 1")),
    "missing key": Case("    on: pool\n", "", 8, ("deployments.0", '"on" is missing', "cluster")),
    "no deployment": Case(
        GOOD[GOOD.index("  - name: serve") : GOOD.index("workloads")],
        "  []\n",
        7,
        ("deployments", "at least 1"),
    ),
    "tp that does not divide the heads": Case(
        "    on: pool",
        "    on: pool\n    parallelism: {tp: 3}",
        11,
        ("tp 3 does not divide the 32 attention heads", "choices: 1, 2, 4, 8"),
    ),
    "experts where there are none": Case(
        "    on: pool", "    on: pool\n    parallelism: {ep: 2}", 11, ("has no experts",)
    ),
    "a model that does not fit": Case(
        "llama-3.1-8b",
        "llama-3.1-405b",
        9,
        ("does not fit", "weights 811.7 GB", "It fits with parallelism: {tp: 16}"),
    ),
    "too many replicas": Case(
        "    on: pool", "    on: pool\n    replicas: 17", 11, ("has 16 of its 16 left", "room for 16")
    ),
    "a context that does not fit": Case(
        GOOD[GOOD.index("      - {name: pool") : GOOD.index("workloads")],
        "      - {name: pool, node: l4-8}\ndeployments:\n"
        "  - {name: serve, model: llama-3.1-8b, on: pool, max_model_len: 131072}\n",
        8,
        ("deployments.0.max_model_len", "131,072 tokens", "use a smaller max_model_len or more ranks"),
    ),
    "two clusters of one name": Case(
        "count: 2}\n",
        "count: 2}\n      - {name: pool, node: hgx-h100}\n",
        3,
        ('2 clusters are called "pool"',),
    ),
    "two deployments of one name": Case(
        "workloads:\n  - name: asks",
        "  - {name: serve, model: llama-3.1-8b, on: pool}\nworkloads:\n  - name: asks\n    to: serve",
        7,
        ('2 deployments are called "serve"',),
    ),
    "two deployments and no `to`": Case(
        "workloads:",
        "  - {name: other, model: llama-3.1-8b, on: pool}\nworkloads:",
        13,
        ('"to" is missing', "serve, other"),
    ),
    "a key given twice": Case(
        "horizon: 10 s\n", "horizon: 10 s\nhorizon: 20 s\n", 3, ('"horizon" is given twice',)
    ),
    "an alias": Case("10 s\n", "&a 10 s\ndescription: *a\n", 3, ("aliases", "`extends:`")),
    "a tag": Case("10 s", "!!python/object:os.system 10 s", 2, ("tag", "not supported")),
    "not YAML": Case("fleet:", "fleet: [", 4, ("not valid YAML",)),
    "a workload without arrivals": Case(
        "    arrivals: {kind: poisson, rate: 2 req/s}\n", "", 12, ("workloads.0", "`arrivals`", "`trace`")
    ),
    "a workload without lengths": Case(
        "    lengths: {kind: fixed, input: 100, answer: 20}\n", "", 12, ("workloads.0", "`lengths`")
    ),
    "a trace that is not there": Case(
        "    arrivals: {kind: poisson, rate: 2 req/s}\n    lengths: {kind: fixed, input: 100, answer: 20}\n",
        "    trace: {path: nowhere.csv}\n",
        13,
        ("workloads.0.trace.path", 'no file "nowhere.csv"'),
    ),
    "a closed loop without end": Case(
        "horizon: 10 s\n",
        "",
        11,
        ("never ends", "num_requests", "horizon"),
    ),
    "workload and workloads": Case(
        "workloads:", "workload: {use: chat_poisson}\nworkloads:", 11, ("either",)
    ),
    "extends what is not there": Case(
        "name: small", "name: small\nextends: reasoning_h10", 2, ("extends", '"reasoning_h100"')
    ),
    "extends a list": Case("name: small", "name: small\nextends: [a, b]", 2, ("one file",)),
    "a name that is no file name": Case(
        "name: pool", 'name: "a b/c"', 6, ("fleet.0.clusters.0.name", "pattern")
    ),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def refused(*arguments: str) -> list[str]:
    """Return the problems with which both commands that read scenarios refuse, as they would be printed."""
    found = []
    for command in ("check", "run"):
        answer = CliRunner().invoke(cli, [command, *arguments])
        assert isinstance(answer.exception, InputError), answer.output or repr(answer.exception)
        assert answer.output == ""
        found.append([str(problem) for problem in answer.exception.problems])
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("name", CASES)
def test_refused_with_place_key_and_mend(name: str, folder: Path) -> None:
    case = CASES[name]
    text = GOOD.replace(case.old, case.new, 1)
    assert text != GOOD
    if name == "a closed loop without end":
        text = text.replace("kind: poisson, rate: 2 req/s", "kind: closed_loop, concurrency: 4")
    (folder / "mine.yaml").write_text(text)
    (problem,) = refused("mine.yaml")
    assert problem.startswith(f"mine.yaml:{case.line}:"), problem
    assert "\n" not in problem
    for words in case.says:
        assert words in problem, problem
    assert everything(folder) == {"mine.yaml"}


FILES = {
    "a list": (b"- a\n", "mine.yaml:1: a scenario is a mapping"),
    "a word": (b"hello\n", "mine.yaml:1: a scenario is a mapping"),
    "empty": (b"", "mine.yaml: is empty"),
    "only a comment": (b"# nothing\n", "mine.yaml: is empty"),
    "binary": (b"\x89PNG\r\n\x1a\n\x00\xff", "mine.yaml:1: is not UTF-8 text"),
    "control characters": (b"name: \x00\n", "mine.yaml:1: not valid YAML"),
    "two documents": (b"name: a\n---\nname: b\n", "mine.yaml:2: not valid YAML"),
    "deep": (b"[" * 4000, "mine.yaml"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_scenario(name: str, folder: Path) -> None:
    content, says = FILES[name]
    (folder / "mine.yaml").write_bytes(content)
    (problem,) = refused("mine.yaml")
    assert problem.startswith(says), problem
    assert everything(folder) == {"mine.yaml"}


def test_a_file_that_would_grow_without_bound(folder: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    (folder / "mine.yaml").write_text("\n".join(lines))
    (problem,) = refused("mine.yaml")
    assert problem.startswith("mine.yaml:2: a1.0: aliases")


def test_extends_in_a_circle(folder: Path) -> None:
    (folder / "a.yaml").write_text("extends: b.yaml\n")
    (folder / "b.yaml").write_text("\nextends: a.yaml\n")
    (problem,) = refused("a.yaml")
    assert "b.yaml:2: extends: goes round in a circle: a.yaml -> b.yaml -> a.yaml" in problem


def test_a_mistake_in_the_file_that_is_extended_names_that_file(folder: Path) -> None:
    (folder / "base.yaml").write_text(GOOD.replace("count: 2", "count: two"))
    (folder / "mine.yaml").write_text("extends: base.yaml\nname: mine\n")
    (problem,) = refused("mine.yaml")
    assert "base.yaml:6: fleet.0.clusters.0.count" in problem


def test_no_such_file_and_no_such_built_in(folder: Path) -> None:
    (problem,) = refused("reasoning_h10")
    assert 'no file "reasoning_h10"' in problem
    assert '"reasoning_h100"' in problem


SETTINGS = {
    "deployments.0": "--set deployments.0: write it like --set deployments.0.replicas=4",
    "=4": "--set =4: write it like --set deployments.0.replicas=4",
    "deployments.3.replicas=4": 'no item "3" in a list of 1 (0 to 0: serve)',
    "deployments.srve.replicas=4": 'Did you mean "serve"?',
    "deployments.serve.replcas=4": "--set deployments.serve.replcas=4: deployments.0.replcas: no key",
    "deployments.serve.replicas=many": "--set deployments.serve.replicas=many: deployments.0.replicas",
    "horizon=1": '--set horizon=1: horizon: 1 has no unit; write it like "1 h"',
    "horizon.x=1": "which has no",
    "name.0=[": "not valid YAML",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_does_not_fit(setting: str, folder: Path) -> None:
    (folder / "mine.yaml").write_text(GOOD)
    problems = refused("mine.yaml", "--set", setting)
    assert SETTINGS[setting] in problems[0], problems
    assert everything(folder) == {"mine.yaml"}


def test_every_mistake_is_named_at_once(folder: Path) -> None:
    text = GOOD.replace("us-iowa", "us-iow").replace("llama-3.1-8b", "llama").replace("10 s", "10")
    (folder / "mine.yaml").write_text(text)
    places = [problem.split(": ")[0] for problem in refused("mine.yaml")]
    assert places == ["mine.yaml:2", "mine.yaml:4", "mine.yaml:9"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read(folder: Path) -> None:
    (folder / "mine.yaml").write_text(GOOD)
    (folder / "mine.yaml").chmod(0)
    (problem,) = refused("mine.yaml")
    assert "cannot be read" in problem


def test_the_good_one_is_good(folder: Path) -> None:
    (folder / "mine.yaml").write_text(GOOD)
    scenario, plans = load_with_plans("mine.yaml")
    assert scenario.name == "small"
    assert [plan.deployment.name for plan in plans] == ["serve"]
