"""Whole comparisons: pairing, ranking, what is refused, and that nothing depends on how they are run."""

from __future__ import annotations

import pytest
from toy import scenario

import clustersim as cs
from clustersim.errors import InputError
from clustersim.scenario.schema import Scenario
from clustersim.study import compare as package
from clustersim.study.compare.objective import better, check_name
from clustersim.study.replicate import numbers, replicate


def small(**changes):
    deployment = changes.pop("deployment", {})
    workload = {"num_requests": 40, **changes.pop("workload", {})}
    return scenario(deployment=deployment, workload=workload, **changes)


SLOW = {"parallelism": {"tp": 1}}
FAST = {"parallelism": {"tp": 4}}


@pytest.fixture(scope="module")
def found():
    """A is small, B has four times the accelerators, C asks so much of one that it is overloaded."""
    rush = {"arrivals": {"kind": "poisson", "rate": "400 req/s"}, "num_requests": None}
    return cs.compare(
        small(deployment=SLOW), small(deployment=FAST), small(deployment=SLOW, workload=rush, horizon="15 s"),
        replications=5,
        processes=1, names=("one", "four", "rush"),
    )  # fmt: skip


def test_every_scenario_has_the_same_seeds_and_its_own_runs(found):
    alone = replicate(small(deployment=FAST), 5, seed=0, processes=1)
    assert list(found.seeds) == alone.seeds
    same = [{k: v for k, v in run.items() if k != "cpu_s"} for run in alone.metrics]
    assert [{k: v for k, v in run.items() if k != "cpu_s"} for run in found.metrics["B"]] == same
    assert found.intervals["B"]["p99_ttft_ms"] == alone.intervals["p99_ttft_ms"]


def test_what_does_not_keep_up_is_listed_last_without_a_rank(found):
    assert found.regimes(found.entries[2]) == {"OVERLOADED": 5}
    ranks = {place.entry.letter: place.rank for place in found.ranking}
    assert ranks["C"] is None
    assert found.ranking[-1].entry.letter == "C"
    assert "OVERLOADED in 5 of 5" in found.ranking[-1].why_not
    assert found.mean(found.entries[2], "p99_ttft_ms") is None
    assert found.difference("A", "C", "p99_ttft_ms").verdict == "no value"
    assert found.table["rank"].isna().tolist() == [False, False, True]


def test_it_ranks_by_cost_where_fleets_differ(found):
    assert found.by == "usd_per_output_mtok"
    best, second = found.ranking[:2]
    assert (best.entry.letter, best.rank, second.rank) == ("A", 1, 2)
    assert found.pair(best.entry, second.entry).verdict == "real"
    assert found.table["over_best"][1] == pytest.approx(4, rel=0.2)


def test_equal_fleets_are_ranked_by_what_they_could_serve():
    pair = cs.compare(small(), small(deployment={"precision": "fp8"}), replications=2, processes=1)
    assert pair.by == "capacity_requests_per_s"
    assert pair.ranking[0].entry.letter == "B"
    assert pair.entries[1].name.startswith("toy, precision")


def test_unlike_demand_is_found(found):
    assert {row.path for row in found.unlike_demand} == {
        "horizon", "workloads.0.arrivals.rate", "workloads.0.num_requests",
    }  # fmt: skip


def test_frames_and_json_hold_every_run(found):
    frame = found.replications
    assert len(frame) == 15
    assert set(frame["seed"]) == set(found.seeds)
    plain = found.as_json()
    assert len(plain["differences"]) == 3 * len(found.values)
    assert {row["letter"] for row in plain["ranking"]} == set("ABC")
    assert "cpu_s" not in plain["intervals_95"]["A"]


def test_equal_gpus_runs_the_scaled_fleets():
    equal = cs.compare(small(deployment=SLOW), small(deployment=FAST), replications=2, equal="gpus", budget="8 gpus",
                       processes=1)  # fmt: skip
    assert {run["num_accelerators"] for runs in equal.metrics.values() for run in runs} == {8}
    assert equal.balance.shares[1].replicas == {"serve": 2}


def test_equal_quality_takes_the_smallest_setting_that_reaches_the_target():
    busy = {"arrivals": {"kind": "poisson", "rate": "60 req/s"}, "num_requests": 300}
    pair = cs.compare(
        small(deployment={"replicas": 4}, workload=busy), small(deployment={**FAST, "replicas": 2}, workload=busy),
        replications=2, equal="quality", target="p99_ttft_ms<=200", knobs=["deployments.0.replicas=1..4"], processes=1,
    )  # fmt: skip
    for entry in pair.entries:
        search = pair.searches[entry.letter]
        assert search.reached
        assert entry.scenario.deployments[0].replicas == search.found
        assert all(run["p99_ttft_ms"] < 200 for run in pair.metrics[entry.letter])
    assert {each.rank for each in pair.ranking} <= {1, 2}


def test_what_cannot_reach_the_target_is_not_ranked():
    pair = cs.compare(small(deployment=SLOW), small(deployment=FAST), replications=2, equal="quality",
                      target="p50_tpot_ms<=5", processes=1)  # fmt: skip
    why = {place.entry.letter: place.why_not for place in pair.ranking}
    assert "does not surely reach p50_tpot_ms <= 5" in why["A"]
    assert why["B"] == ""


def test_processes_change_nothing():
    serial, parallel = (
        cs.compare(small(deployment=SLOW), small(deployment=FAST), replications=2, processes=num).as_json()
        for num in (1, 2)
    )
    assert serial == parallel


def test_progress_is_told_run_by_run():
    told = []
    cs.compare(small(deployment=SLOW), small(deployment=FAST), replications=2, processes=1,
               done=lambda *each: told.append(each))  # fmt: skip
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"by": "p99_tftt_ms"}, 'no metric "p99_tftt_ms". Did you mean "p99_ttft_ms"'),
        ({"by": "mean_batch"}, "neither better nor worse"),
        ({"by": "deployments.srve.mfu"}, 'Did you mean "deployments.serve"'),
        ({"metrics": ["p99"]}, "--metric p99"),
        ({"replications": 1}, "wants 2 at least"),
        ({"equal": "quality"}, "wants a target"),
        ({"target": 0.8}, "are for --equal quality"),
        ({"equal": "quality", "target": 0.8, "budget": "3 MW"}, "has no budget"),
        ({"equal": "cost", "budget": "3 MW"}, "is a power"),
        ({"equal": "quality", "target": 0.8, "knobs": ["deployments.0.replica=1..3"]}, "no scenario has the setting"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_runs(options, says, monkeypatch):
    monkeypatch.setattr(package, "metrics_of", lambda *_: pytest.fail("it ran"))
    with pytest.raises(InputError) as error:
        cs.compare(small(deployment=SLOW), small(deployment=FAST), **options)
    assert says in str(error.value)


def test_the_same_scenario_twice_is_refused():
    with pytest.raises(InputError, match='A \\("a"\\) and C \\("c"\\) are the same scenario'):
        cs.compare(small(), small(deployment=FAST), small(name="other", seed=9), names=("a", "b", "c"))
    with pytest.raises(InputError, match="2 to 12 scenarios, not 1"):
        cs.compare(small())


def with_every_mechanism() -> Scenario:
    """Two deployments that report every metric of a fleet: tiers, transfers, cold starts, failures, admission, adapters."""
    common = {"model": "llama-3.1-8b", "on": "pool", "lora": {"max_loras": 1}}
    decode = {
        **common, "name": "decode", "prefill_by": "prefill", "replicas": 1, "kv_transfer": {"when": "at_the_end"},
        "admission": {"kind": "queue_limit", "max_outstanding": 20},
        "autoscaler": {"kind": "reactive", "max_replicas": 3},
    }  # fmt: skip
    prefill = {**common, "name": "prefill", "kv_tiers": [{"where": "host_memory", "capacity": "10 GB"}]}
    workload = {
        "to": "decode",
        "prefix": {"kind": "shared_system_prompt", "tokens": 512, "num_prompts": 4},
        "adapters": {"num_adapters": 3},
    }
    failures = [{"kind": "accelerator", "at": ["3 s"]}]
    return scenario(deployments=[decode, prefill], workload=workload, failures=failures)


@pytest.mark.parametrize("make", [small, with_every_mechanism])
def test_every_metric_of_a_run_has_a_known_side(make):
    played = make()
    for key in numbers(cs.simulate(played).metrics):
        check_name(key, [played], "--by")


@pytest.mark.parametrize(
    ("metric", "side"),
    [
        ("prefix_hit_frac", "higher"), ("availability_frac", "higher"), ("shed_frac", "lower"), ("retries", "lower"),
        ("lost_tokens", "lower"), ("gpu_hours", "lower"), ("cold_start_s", "lower"), ("adapter_loads", "lower"),
        ("kv_transfer.p99_s", "lower"), ("kv_offload.p50_s", "lower"), ("kv_transfer.bytes", None),
    ],
)  # fmt: skip
def test_metrics_of_mechanisms_can_be_ranked_by(metric, side):
    played = with_every_mechanism()
    for key in (metric, f"deployments.decode.{metric}"):
        check_name(key, [played], "--by")
        assert better(key) == side


def test_a_deployment_may_have_the_name_of_a_group() -> None:
    assert better("deployments.kv_transfer.p99_ttft_ms") == "lower"
    assert better("deployments.kv_transfer.kv_transfer.p99_s") == "lower"


def test_a_group_of_metrics_has_no_others():
    with pytest.raises(
        InputError, match=r'no metric "kv_transfer\.p99_ms"\. Did you mean "kv_transfer\.p99_s"'
    ):
        check_name("deployments.decode.kv_transfer.p99_ms", [with_every_mechanism()], "--by")


def test_fleets_are_ranked_by_what_their_transfers_took():
    played = with_every_mechanism()
    fp8 = {"weights": "bf16", "activations": "bf16", "kv_cache": "fp8"}
    small_kv = played.with_(*((f"deployments.{name}.precision", fp8) for name in ("prefill", "decode")))
    by = "deployments.decode.kv_transfer.p50_s"
    found = cs.compare(played, small_kv, by=by, replications=3, processes=1)
    assert [place.entry.letter for place in found.ranking] == ["B", "A"]
