"""Nothing is lost and nothing is made up: requests, tokens, KV blocks, time, joules; and causes precede effects."""

from __future__ import annotations

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim import simulate
from clustersim.records import FINISHED

SEEDS = st.integers(0, 2**32 - 1)
FIRST_COME = ("chunked_prefill", "prefill_first", "static_batch")


@settings(max_examples=150)
@given(SEEDS)
def test_requests_tokens_and_kv_blocks_are_conserved(seed: int) -> None:
    mix = toy.draw_mix(np.random.default_rng(seed))
    outcome = toy.serve(mix)
    rows, runs = outcome.requests, outcome.runs
    assert (rows["status"] == FINISHED).all()
    assert (runs["batch"] * runs["num_steps"] + runs["num_first_tokens"]).sum() == sum(mix.thinking) + sum(
        mix.answer
    )
    recomputed = runs["prefill_tokens"].sum() - sum(mix.input)
    assert recomputed >= 0
    assert recomputed == 0 or rows["num_preemptions"].any()
    assert (runs["kv_blocks"] <= mix.num_blocks).all()
    for replica in outcome.replicas:
        assert (replica.kv.used, replica.kv.num_decoding, replica.context) == (0, 0, 0)
        assert not any([replica.waiting, replica.running, replica.computed, replica.left])


@settings(max_examples=150)
@given(SEEDS)
def test_no_effect_comes_before_its_cause(seed: int) -> None:
    mix = toy.draw_mix(np.random.default_rng(seed))
    outcome = toy.serve(mix)
    rows, runs = outcome.requests, outcome.runs
    order = ["arrival_s", "scheduled_s", "first_token_s", "first_answer_s", "finish_s"]
    times = np.stack([rows[name] for name in order])
    assert (np.diff(times, axis=0) >= 0).all()
    assert (times[2] > times[1]).all(), "a prefill takes time"
    output = np.asarray(mix.thinking) + np.asarray(mix.answer)
    np.testing.assert_array_equal(times[2] == times[3], np.asarray(mix.thinking) == 0)
    np.testing.assert_array_equal(times[2] == times[4], output == 1)
    for index in range(mix.replicas):
        mine = runs["replica"] == index
        assert (runs["end_s"][mine] > runs["start_s"][mine]).all()
        assert (runs["start_s"][mine][1:] >= runs["end_s"][mine][:-1]).all(), "one run at a time"
        if mix.scheduler.kind in FIRST_COME and not mix.adapter_slots:
            assert (np.diff(rows["scheduled_s"][rows["replica"] == index]) >= 0).all(), (
                "first come, first served"
            )


@settings(max_examples=50)
@given(SEEDS)
def test_batches_keep_to_slots_and_budget(seed: int) -> None:
    mix = toy.draw_mix(np.random.default_rng(seed))
    runs = toy.serve(mix).runs
    sequences = runs["batch"] + runs["num_prefills"] + runs["num_stalled"]
    assert (sequences <= mix.scheduler.max_num_seqs * mix.data_parallel).all()
    budget = mix.scheduler.max_step_tokens
    if budget is not None:
        prefill = runs["prefill_tokens"] > 0
        assert ((runs["batch"] + runs["prefill_tokens"])[prefill] <= budget * mix.in_flight).all()


@pytest.fixture(scope="module")
def result():
    return simulate(toy.scenario(deployment={"replicas": 2}))


def test_both_records_of_a_run_tell_the_same_time(result) -> None:
    runs, rows = result.served[0].runs, result.requests
    seconds = runs["end_s"] - runs["start_s"]
    assert result["num_preemptions"] == 0
    assert (seconds * runs["batch"]).sum() == pytest.approx((rows["finish_s"] - rows["first_token_s"]).sum())


def test_the_timeline_adds_up_to_the_whole(result) -> None:
    line, rows = result.timeline, result.requests
    width = line["time_s"][1] - line["time_s"][0]
    output = (rows["thinking_tokens"] + rows["answer_tokens"]).sum()
    runs = result.served[0].runs

    def integral(column: str) -> float:
        return float(line[column].sum() * width)

    assert integral("arrivals_per_s") == pytest.approx(len(rows))
    assert integral("output_tokens_per_s") == pytest.approx(output)
    assert integral("prefill_tokens_per_s") == pytest.approx(rows["input_tokens"].sum())
    assert 2 * integral("busy_frac") == pytest.approx((runs["end_s"] - runs["start_s"]).sum())
    assert integral("queue") == pytest.approx((rows["scheduled_s"] - rows["entered_s"]).sum(), rel=1e-6)
    assert integral("power_w") / 3.6e6 == pytest.approx(result["it_energy_kwh"], rel=0.005)


def test_every_accelerator_second_and_joule_is_billed(result) -> None:
    price = result["price"]["usd_per_gpu_hour"]
    assert result["usd"] == pytest.approx(price * result["num_accelerators"] * result["duration"] / 3600)
    device = result.plans[0].cluster.node.accelerator
    node = result.plans[0].cluster.node
    share = result["num_accelerators"] / node.count
    least = result["num_accelerators"] * device.idle_w.value + share * node.host_idle_w.value
    most = result["num_accelerators"] * device.tdp_w.value + share * node.host_max_w.value
    assert least < result["it_energy_kwh"] * 3.6e6 / result["duration"] < most
    assert result["energy_kwh"] == pytest.approx(result["it_energy_kwh"] * result.plans[0].site.pue.value)


def test_shares_of_time_add_up_to_one(result) -> None:
    for key in ("time_by_part", "time_by_operator", "time_by_evidence"):
        assert sum(result[key].values()) == pytest.approx(1), key


def test_counts_of_the_result_are_those_of_its_requests(result) -> None:
    rows = result.requests
    assert result["num_requests"] == result["completed"] == len(rows) == 100
    assert result["total_output"] == (rows["thinking_tokens"] + rows["answer_tokens"]).sum()
    assert result["output_throughput"] * result["duration"] == pytest.approx(result["total_output"])
    assert result["request_throughput"] * result["duration"] == pytest.approx(100)


def test_littles_law(result) -> None:
    """L = lambda W: runs count who decodes, requests say how long they do."""
    rows = result.requests
    rate = len(rows) / result["duration"]
    decoding = (rows["finish_s"] - rows["first_token_s"]).mean()
    assert 2 * result["mean_batch"] == pytest.approx(rate * decoding)
    assert result["mean_queue"] == pytest.approx(rate * result["mean_queue_ms"] / 1000)


def test_requests_too_long_for_a_replica_are_rejected_and_counted() -> None:
    promise = {"slo": {"ttft": "1 h"}}
    result = simulate(toy.scenario(deployment={"max_model_len": 700}, workload=promise))
    rows = result.requests
    tokens = rows["input_tokens"] + rows["thinking_tokens"] + rows["answer_tokens"]
    np.testing.assert_array_equal(rows["status"] == "rejected", tokens > 700)
    assert 0 < result["failed"] == (tokens > 700).sum() < 100
    assert result["completed"] + result["failed"] == result["num_requests"] == 100
    assert result["goodput_frac"] == pytest.approx(result["completed"] / 100), "a refusal keeps no promise"
