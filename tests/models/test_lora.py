"""LoRA adapters: parameters by hand, bytes and work by rank, and what they cost a step."""

from __future__ import annotations

import numpy as np
import pytest
import toy

from clustersim.errors import InputError
from clustersim.models.hf_config import load_model
from clustersim.models.layout import Parallelism
from clustersim.models.lora import Lora, adapter_bytes_per_rank, groups, lora_ops, num_tensors
from clustersim.models.precision import Precision
from clustersim.models.step import StepShape, rank_shape
from clustersim.scenario.plan import plan
from clustersim.simulation import simulate

BF16 = Precision.model_validate("bf16")
LLAMA = load_model("llama-3.1-8b")
ONE = Parallelism()


def test_parameters_of_an_adapter_by_hand() -> None:
    """PEFT prints 41,943,040 trainable parameters for Llama 3.1 8B, rank 16, all linear layers; 13,631,488 for attention's."""
    attention = 2 * (4096 + 4096) + 2 * (4096 + 1024)
    mlp = 3 * (4096 + 14336)
    assert 32 * 16 * (attention + mlp) == 41_943_040
    assert adapter_bytes_per_rank(LLAMA, ONE, BF16, Lora(rank=16)) == 2 * 41_943_040
    assert adapter_bytes_per_rank(LLAMA, ONE, BF16, Lora(rank=16, targets="attention")) == 2 * 13_631_488
    assert num_tensors(LLAMA, ONE, Lora()) == 32 * 7 * 2


@pytest.mark.parametrize(
    "name", ["llama-3.1-8b", "llama-3.1-70b", "qwen3-30b-a3b", "deepseek-v3", "gpt-oss-120b"]
)
def test_ranks_together_hold_at_least_the_whole(name: str) -> None:
    spec, lora = load_model(name), Lora(rank=8)
    whole = adapter_bytes_per_rank(spec, ONE, BF16, lora)
    assert whole > 0
    for tp in (2, 4):
        part = adapter_bytes_per_rank(spec, Parallelism(tp=tp), BF16, lora)
        assert whole / tp < part < whole
    halves = adapter_bytes_per_rank(spec, Parallelism(pp=2), BF16, lora)
    assert whole / 2 <= halves < 0.6 * whole


def test_work_is_two_flops_a_parameter_and_token() -> None:
    lora = Lora(rank=16, max_loras=4)
    shape = rank_shape(StepShape.decode(8, 1000), ONE)
    ops = list(lora_ops(LLAMA, ONE, BF16, lora, shape))
    assert sum(op.count * op.flops for op in ops) == 2 * 8 * 41_943_040
    weights = 4 * 2 * 41_943_040
    moved = sum(op.count * op.bytes for op in ops)
    assert weights < moved < 1.2 * weights
    assert len(ops) == 2 * len(groups(LLAMA, lora))
    nothing = rank_shape(StepShape(np.zeros(3)), ONE)
    assert all((op.flops + op.bytes == 0).all() for op in lora_ops(LLAMA, ONE, BF16, lora, nothing))


def deployment(**lora: object) -> dict[str, object]:
    return {"deployment": {"lora": lora}} if lora else {}


def test_slots_take_memory_from_kv_and_every_step_is_longer() -> None:
    bare = plan(toy.scenario())[0]
    small, large = (plan(toy.scenario(**deployment(max_loras=4, rank=rank)))[0] for rank in (16, 64))
    assert large.memory.adapters_bytes == 4 * 4 * 2 * 41_943_040
    blocks = [each.memory.num_blocks for each in (bare, small, large)]
    assert blocks == sorted(blocks, reverse=True)
    assert bare.memory.kv_bytes - large.memory.kv_bytes == pytest.approx(large.memory.adapters_bytes)
    assert sum(size for _, size in large.memory.rows()) == pytest.approx(large.memory.capacity_bytes)
    for batch in (1, 32, 200):
        seconds = [each.step_time.decode(batch).at(1000 * batch) for each in (bare, small, large)]
        assert seconds[0] < seconds[1] < 1.3 * seconds[0]
        assert seconds[2] > 0.98 * seconds[1], "measured rows are noisy"
    shape = (2048, 2048 * 2049 // 2, 2048, 1, 2048)
    assert bare.step_time.mixed(0, 0, *shape) < small.step_time.mixed(0, 0, *shape)


def test_loading_is_bytes_over_the_host_link_and_the_first_request_waits_for_it() -> None:
    adapters = {"num_adapters": 1}
    workload = {"num_requests": 1, "lengths": {"kind": "fixed", "input": 100, "answer": 5}}
    changes = {"max_loras": 2, "rank": 64}
    with_lora = toy.scenario(**deployment(**changes), workload={**workload, "adapters": adapters})
    without = toy.scenario(**deployment(**changes), workload=workload)
    its = plan(with_lora)[0]
    link = its.cluster.node.host_link
    assert link is not None
    bytes_s = 4 * 2 * 41_943_040 / link.bandwidth_bytes_per_s.value
    assert bytes_s < its.adapter_load_s < 2 * bytes_s + 0.01
    loaded, plain = simulate(with_lora), simulate(without)
    assert loaded["adapter_loads"] == 1
    assert plain["adapter_loads"] == 0
    waits = [(rows["first_token_s"] - rows["arrival_s"])[0] for rows in (loaded.requests, plain.requests)]
    assert waits[0] - waits[1] == pytest.approx(its.adapter_load_s)


def test_few_slots_load_again_and_again_or_let_others_wait() -> None:
    workload = {"adapters": {"num_adapters": 8, "base_share": 0.1}, "num_requests": 60}
    one, three, all_of_them = (
        simulate(toy.scenario(**deployment(max_loras=slots), workload=workload)) for slots in (1, 3, 8)
    )
    assert all_of_them["adapter_loads"] <= 8 < three["adapter_loads"]
    assert one["p99_ttft_ms"] > 2 * three["p99_ttft_ms"] > 2 * all_of_them["p99_ttft_ms"]


def test_adapters_that_nobody_serves_are_refused() -> None:
    scenario = toy.scenario(workload={"adapters": {"num_adapters": 3}})
    with pytest.raises(
        InputError, match=r'workloads\.0\.adapters: .*deployment "serve" serves none.*deployments\.0\.lora'
    ):
        plan(scenario)


def test_both_halves_of_a_disaggregated_deployment_serve_the_same_adapters() -> None:
    names = ("prompts", "serve")
    first, second = ({"name": name, "model": "llama-3.1-8b", "on": "pool"} for name in names)
    workload = {"name": "asks", "to": "serve", "arrivals": "all_at_once", "num_requests": 12,
                "lengths": {"kind": "fixed", "input": 100, "answer": 10}, "adapters": {"num_adapters": 3}}  # fmt: skip
    second |= {"prefill_by": "prompts", "lora": {"max_loras": 2}}
    with pytest.raises(InputError, match="give both the same `lora`"):
        plan(toy.scenario(deployments=[first, second], workloads=[workload]))
    first["lora"] = second["lora"]
    rows = [
        simulate(
            toy.scenario(deployments=[first, second], workloads=[workload], engine={"mode": mode})
        ).requests
        for mode in ("runs", "stepwise")
    ]
    np.testing.assert_allclose(rows[0]["finish_s"], rows[1]["finish_s"], rtol=1e-9)
    assert rows[0]["finish_s"].notna().all()
    assert rows[0]["adapter_loads"].sum() >= 6, "each is loaded by who prefills and by who decodes"
