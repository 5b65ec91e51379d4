"""Corners of serving, each by hand, that random fleets were caught in."""

from __future__ import annotations

from typing import Any

import pytest
import toy
import toy_tasks

from clustersim.clock import Clock
from clustersim.records import FINISHED, REJECTED, RequestRecords, RunRecords
from clustersim.serving.kv_cache import KvCache, Prefix
from clustersim.serving.replica import Replica
from clustersim.serving.schedulers.chunked_prefill import ChunkedPrefill
from clustersim.serving.schedulers.longest_prefix_match import LongestPrefixMatch
from clustersim.serving.stepwise import StepwiseReplica

MODES = pytest.mark.parametrize("mode", [Replica, StepwiseReplica])


class Bench:
    """One replica whose every step takes a second, a block of KV a token."""

    def __init__(self, mode: type[Replica], num_blocks: int, scheduler: Any) -> None:
        self.env = Clock()
        self.records = RequestRecords(8)
        self.replica = mode(
            0, self.env, self.records, RunRecords(), scheduler, toy.Constant(1.0), KvCache(1, num_blocks), lambda *_: None
        )  # fmt: skip

    def at(self, time: float, act: Any, *given: Any) -> None:
        self.env.timeout(time).callbacks.append(lambda _event: act(*given, time))

    def ask(self, time: float, tokens: int, output: int) -> int:
        row = self.records.add()
        self.records.input_tokens[row], self.records.answer_tokens[row] = tokens, output
        self.at(time, self.replica.submit, row)
        return row


@MODES
def test_who_comes_after_the_last_one_in_the_queue_gave_up_is_let_in(mode: type[Replica]) -> None:
    bench = Bench(mode, 40, ChunkedPrefill())
    bench.ask(0, 10, 20)
    too_long = bench.ask(1, 35, 1)
    bench.at(5.5, bench.replica.withdraw, too_long)
    after = bench.ask(6.5, 5, 3)
    bench.env.run()
    assert bench.records.scheduled_s[after] == 7


@MODES
def test_what_was_cached_at_an_arrival_orders_the_queue_though_it_is_gone_when_a_slot_is_free(
    mode: type[Replica],
) -> None:
    bench = Bench(mode, 30, LongestPrefixMatch(max_num_seqs=1))
    prefix, sharing = Prefix(), bench.replica.sharing
    sharing.keeps[bench.ask(0, 8, 1)] = prefix
    growing = bench.ask(1, 4, 24)
    first = bench.ask(2.5, 9, 1)
    known = bench.ask(3.5, 9, 1)
    sharing.wants[known] = prefix
    bench.env.run()
    assert bench.records.cached_tokens[known] == 0, "evicted before"
    assert (
        bench.records.finish_s[growing] <= bench.records.scheduled_s[known] < bench.records.scheduled_s[first]
    )


def _pair(prefill: dict[str, Any], decode: dict[str, Any], **more: Any) -> Any:
    common = {"model": "llama-3.1-8b", "on": "pool", "serving_engine": toy_tasks.ENGINE}
    deployments = [{"name": "prefill", **common, **prefill},
                   {"name": "decode", "prefill_by": "prefill", **common, **decode}]  # fmt: skip
    if "gateway" in more:
        deployments.append({"name": "other", **common})
    lengths = {"kind": "independent", "input": {"kind": "uniform", "low": 1, "high": 60}, "thinking": {"kind": "fixed", "value": 0},
               "answer": {"kind": "fixed", "value": 3}}  # fmt: skip
    workload = {
        "arrivals": {"kind": "poisson", "rate": "90 req/s"},
        "to": "decode",
        "lengths": lengths,
        "num_requests": 30,
    }
    return toy.scenario(deployments=deployments, workloads=[{"name": "asks", **workload, **more}])


@pytest.mark.parametrize("when", ["layer_by_layer", "at_the_end"])
def test_a_prompt_that_no_prefilling_replica_can_hold_is_rejected(when: str) -> None:
    scenario = _pair({}, {"kv_transfer": {"when": when}})
    played = toy_tasks.play(toy_tasks.Mix(scenario, 4, (10, 1000), exact=False))
    long = played.rows["input_tokens"] + played.output > 40
    assert long.any()
    assert (played.rows["status"] == [REJECTED if each else FINISHED for each in long]).all()


@pytest.mark.parametrize("gateway", ["weighted", "least_outstanding_requests", "cost_aware"])
def test_a_gateway_knows_a_pair_that_sleeps(gateway: str) -> None:
    asleep = {
        "replicas": 0,
        "autoscaler": {"kind": "reactive", "min_replicas": 0, "max_replicas": 2, "interval": "0.1 s"},
    }
    scenario = _pair(asleep, asleep, to=["decode", "other"], gateway=gateway)
    played = toy_tasks.play(toy_tasks.Mix(scenario, 4, (100, 100, 100), exact=False))
    assert (played.rows["status"] == FINISHED).all()
