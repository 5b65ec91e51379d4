"""Scenarios that cannot be: a wrong unit, a kind that is none, a model that does not fit, a run that never ends."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from refusing import GOOD, refusal


class Case(NamedTuple):
    """`old` in the good scenario becomes `new`; the answer names this line and holds these texts."""

    old: str
    new: str
    line: int
    says: tuple[str, ...]


def instead(new: str, line: int, *says: str, of: str = "    on: pool\n") -> Case:
    """Return a case that puts a line after `of`."""
    return Case(of, f"{of}{new}\n", line, says)


ARRIVALS = "arrivals: {kind: poisson, rate: 2 req/s}"
LENGTHS = "lengths: {kind: fixed, input: 100, answer: 20}"
RATE, TIME, MEMORY = ('write it like "16 req/s"', 'write it like "1 h"', "GB")
CASES = {
    # units and numbers
    "an infinite horizon": Case("10 s", "inf s", 2, ("horizon", "must be finite", "leave it out")),
    "a bare infinity": Case("10 s", ".inf", 2, ("horizon", "must be finite")),
    "not a number": Case("10 s", ".nan", 2, ("horizon", TIME)),
    "nan in words": Case("10 s", "nan s", 2, ("horizon", TIME)),
    "a time that overflows": Case("10 s", "1e999 s", 2, ("horizon", "must be finite")),
    "a time in words": Case("10 s", "ten seconds", 2, ("horizon", TIME)),
    "code for a time": Case("10 s", "__import__('os').system('touch hacked')", 2, ("horizon", TIME)),
    "a tower of powers for a time": Case("10 s", "9**9**9**9**9 s", 2, ("horizon", TIME)),
    "a list for a time": Case("10 s", "[10 s]", 2, ("horizon", TIME)),
    "a length for a time": Case("10 s", "10 m", 2, ("horizon", "not a time", TIME)),
    "a truth value for a time": Case("10 s", "true", 2, ("horizon", TIME)),
    "a zero rate": Case("2 req/s", "0 req/s", 13, ("rate", "above zero", RATE)),
    "a negative rate": Case("2 req/s", "-2 req/s", 13, ("rate", "above zero", RATE)),
    "a rate without its unit": Case("2 req/s", "2", 13, ("rate", "no unit", RATE)),
    "a rate that is a time": Case("2 req/s", "2 s", 13, ("rate", RATE)),
    "half a node": Case("count: 2", "count: 2.5", 6, ("count", "integer")),
    "nodes in words": Case("count: 2", "count: two", 6, ("count", "integer")),
    "minus one node": Case("count: 2", "count: -1", 6, ("count", "greater than or equal to 1")),
    "no tokens": Case("input: 100", "input: 0", 14, ("input",)),
    "minus tokens": Case("answer: 20", "answer: -20", 14, ("answer",)),
    "a fraction of a token": Case("answer: 20", "answer: 20.5", 14, ("answer", "integer")),
    "a negative seed": instead("seed: -1", 3, "seed", "greater than or equal to 0", of="horizon: 10 s\n"),
    "a seed in words": instead("seed: lucky", 3, "seed", "integer", of="horizon: 10 s\n"),
    "a bandwidth as a size": Case("node: hgx-h100", "node: {base: hgx-h100, accelerator: {memory_bandwidth: 6 TB}}", 6,
                                  ("memory_bandwidth", "bandwidth")),
    "a memory as a rate": Case("node: hgx-h100", "node: {base: hgx-h100, accelerator: {memory: 80 GB/s}}", 6, ("memory",)),
    "a negative price": Case("count: 2", "price: {kind: fixed, rate: -1 USD/h}", 6, ("price.rate", "zero or more")),
    # names
    "an unknown GPU": Case("hgx-h100", "{base: hgx-h100, accelerator: h1000}", 6, ("accelerator", '"h100-')),
    "an unknown engine": instead("    serving_engine: vlm", 11, "serving_engine", 'no engine "vlm"', '"vllm-v1"'),
    "an engine file that is not there": instead("    serving_engine: ./mine-engine.yaml", 11, "serving_engine", "no file"),
    "an unknown router": instead("    router: round_robbin", 11, 'no router "round_robbin"', '"round_robin"'),
    "an unknown network": Case("count: 2", "network: infiniband", 6, ('no network "infiniband"', "rail_optimised")),
    "an unknown price": Case("count: 2", "price: free", 6, ('no price "free"',)),
    "an unknown warm-up": instead("warm_up: somewhat", 3, 'no warm_up "somewhat"', "fraction", of="horizon: 10 s\n"),
    "an unknown strategy": instead("    tasks: {strategy: think_hard}", 15, 'no strategy "think_hard"', of=f"    {LENGTHS}\n"),
    "an unknown benchmark": instead("    tasks: {benchmark: aime1999}", 15, "benchmark", "aime", of=f"    {LENGTHS}\n"),
    "an unknown deployment in a strategy": instead(
        "    tasks:\n      accuracy: 0.5\n      strategy:\n        kind: cascade\n        cheap: direct\n        strong_to: srve",
        20, "workloads.0.tasks.strategy.strong_to", 'no deployment "srve"', '"serve"', of=f"    {LENGTHS}\n"),
    "an unknown deployment deep in a strategy": instead(
        "    tasks:\n      accuracy: 0.5\n      strategy:\n        kind: vote\n        n: 2\n        sample:\n          kind: cascade\n"
        "          cheap_to: srve", 22, "workloads.0.tasks.strategy.sample.cheap_to", '"serve"', of=f"    {LENGTHS}\n"),
    "an unknown distribution": Case(LENGTHS, "lengths: {kind: independent, input: {kind: normal, mean: 5}, answer: 2}", 14,
                                    ('no distribution "normal"', "lognormal")),
    "an unknown format of numbers": instead("    precision: int3", 11, "precision"),
    "an unknown mode": instead("engine: {mode: fast}", 3, "engine.mode", "'runs' or 'stepwise'", of="horizon: 10 s\n"),
    "a kind that is a mapping": Case("kind: poisson", "kind: {kind: poisson}", 13, ("arrivals", "poisson")),
    "a kind that is a number": Case("kind: poisson", "kind: 5", 13, ('no arrivals "5"', "poisson")),
    "a part without a kind": Case("kind: poisson, ", "", 13, ("arrivals", '"kind"', "poisson")),
    "an unknown key deep inside": Case("answer: 20", "answr: 20", 14, ("lengths", 'no key "answr"', '"answer"')),
    "a name with a path in it": Case("name: serve", "name: ../serve", 8, ("deployments.0.name", "pattern")),
    "a name of 200 letters": Case("name: serve", f"name: {'a' * 200}", 8, ("deployments.0.name", "at most 64")),
    # shapes
    "a mapping for the list of deployments": Case("  - name: serve\n    model", "    name: serve\n    model", 7, ("deployments", "list")),
    "a word for the fleet": Case(GOOD[GOOD.index("fleet:") : GOOD.index("deployments")], "fleet: big\n", 3, ("fleet", "list")),
    "a number for workloads": Case(GOOD[GOOD.index("workloads:") :], "workloads: 5\n", 11, ("workloads", "list")),
    "nothing for workloads": Case(GOOD[GOOD.index("workloads:") :], "workloads:\n", 11, ("workloads", "list")),
    "no workload at all": Case(GOOD[GOOD.index("workloads:") :], "", 1, ('"workloads" is missing',)),
    "no fleet at all": Case(GOOD[GOOD.index("fleet:") : GOOD.index("deployments")], "", 1, ('"fleet" is missing',)),
    "no name": Case("name: small\n", "", 1, ('"name" is missing',)),
    "models that are a list": instead("models: [a]", 3, "models", "a name for each", of="horizon: 10 s\n"),
    "a model of its own that nobody uses": instead("models: {mine: llama-3.1-8b}", 3, "models.mine", "no deployment uses", of="horizon: 10 s\n"),
    "a config of its own without its keys": Case("model: llama-3.1-8b", "model: {architectures: [LlamaForCausalLM]}", 9, ("hidden_size",)),
    "a config of an architecture that is none": Case("model: llama-3.1-8b", "model: {architectures: [Llama9]}", 9, ('no architecture "Llama9"',)),
    # what does not go together
    "tp 5": instead("    parallelism: {tp: 5}", 11, "tp 5 does not divide the 32 attention heads", "choices: 1, 2, 4, 8"),
    "tp 0": instead("    parallelism: {tp: 0}", 11, "parallelism.tp", "greater than or equal to 1"),
    "more accelerators than there are": instead("    parallelism: {tp: 8, pp: 4}", 8, "need 32", "room for 0"),
    "the largest model on the smallest accelerator": Case(GOOD[GOOD.index("      - {name: pool") : GOOD.index("    on: pool")],
        "      - {name: pool, node: l4-8}\ndeployments:\n  - name: serve\n    model: deepseek-r1\n", 9, ("does not fit",)),
    "a context of a billion tokens": instead("    max_model_len: 1000000000", 11, "max_model_len", "1,000,000,000", "smaller"),
    "a context of no tokens": instead("    max_model_len: 0", 11, "max_model_len", "greater than or equal to 1"),
    "two workloads of one name": Case(f"    {LENGTHS}\n", f"    {LENGTHS}\n  - name: asks\n    {ARRIVALS}\n    {LENGTHS}\n", 11,
                                      ('2 workloads are called "asks"',)),
    "both arrivals and lengths given, and a trace": instead("    trace: {path: mine.yaml}", 12, "`trace` has no effect", of=f"    {LENGTHS}\n"),
    "a tenant without a weight": instead("    tenants: [{name: a}]", 12, 'tenant "a" needs a `weight`', of=f"    {LENGTHS}\n"),
    "two tenants of one name": instead("    tenants: [{name: a, weight: 1}, {name: a, weight: 1}]", 12, 'two tenants are called "a"',
                                       of=f"    {LENGTHS}\n"),
    "a promise of no time": instead("    slo: {ttft: 0 s}", 15, "slo.ttft", "above zero", of=f"    {LENGTHS}\n"),
    "a lognormal without a spread": Case(LENGTHS, "lengths: {kind: independent, input: {kind: lognormal, median: 5}, answer: 2}", 14,
                                         ("`sigma`, `cv`, `p90`, `p99`",)),
    # runs that never end, or that nothing holds
    "arrivals without end": Case("horizon: 10 s\n", "", 12, ("workloads.0.arrivals", "never end", "`num_requests`")),
    "a batch without a size": Case(ARRIVALS, "arrivals: all_at_once", 13, ("all_at_once", "`num`")),
    "a trillion requests": Case("2 req/s", "1e11 req/s", 13, ("workloads.0.arrivals", "1,000,000,000,000 requests", "lower the rate")),
    "a trillion requests, said so": instead("    num_requests: 1000000000000", 15, "num_requests", "more than can be simulated", of=f"    {LENGTHS}\n"),
    "a trillion users": Case(ARRIVALS, "arrivals: {kind: closed_loop, concurrency: 1000000000000}", 13, ("concurrency", "more than can be simulated")),
    "a trillion replicas": Case("count: 2}\ndeployments:\n  - name: serve\n", "count: 200000000000}\ndeployments:\n  - name: serve\n    replicas: 1000000000000\n",
                                7, ("deployments", "more than 1,000,000 replicas")),
    "a row of the timeline each nanosecond": instead("outputs: {timeline_bin: 1 ns}", 3, "outputs.timeline_bin", "10,000,000,000 rows", of="horizon: 10 s\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    text = GOOD.replace(case.old, case.new, 1)
    assert text != GOOD
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(text)
    line = refusal(["run", "mine.yaml"], capsys, monkeypatch)
    assert line.startswith(f"mine.yaml:{case.line}: "), line
    for words in case.says:
        assert words in line, line


#: Settings that are found out only while it runs -> what is said; the file is named.
LATER = {
    "warm_up={kind: duration, duration: 11 s}": "warm_up leaves nothing to measure",
    "workload.lengths={kind: independent, input: 5, answer: {kind: lognormal, median: 1e-9, sigma: 1}}": "hardly a draw",
    "workload.lengths={kind: independent, input: 5, answer: {kind: lognormal, median: 1e30, sigma: 1}}": "tokens was drawn",
    "workload.arrivals={kind: rate_curve, points: [[0 s, 1 req/s], [5 s, 2 req/s]]}": "rate",
    "workload.arrivals={kind: rate_curve, points: [[0 s, 1e12 req/s], [9 s, 1e12 req/s]], period: 10 s}": "100,000,000 can be simulated",
    "outputs.timeline_bin=1 us": "10,000,000 rows",
}  # fmt: skip


@pytest.mark.parametrize("setting", LATER)
def test_refused_while_it_runs(
    setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(GOOD)
    line = refusal(["run", "mine.yaml", "--set", setting], capsys, monkeypatch)
    assert "mine.yaml" in line or "--set" in line, line
    assert LATER[setting] in line, line
