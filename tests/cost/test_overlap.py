"""Two micro-batches: their times by hand, what they may never do, and the tables made from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.cost.account import account
from clustersim.cost.collectives import Fabric
from clustersim.cost.model import CostModel
from clustersim.cost.overlap import half, split
from clustersim.cost.step_time import StepTime
from clustersim.models.layout import Parallelism
from clustersim.models.step import RankShape, StepShape, rank_shape
from clustersim.scenario.plan import DeploymentPlan, plan
from clustersim.study.explain import explain

UNIT = {"ep": 32, "attention_dp": 32, "redundant_experts": 32}
FP8 = {"weights": "fp8_block", "activations": "fp8", "kv_cache": "bf16"}


def planned(**parallelism: object) -> DeploymentPlan:
    deployment = {"model": "deepseek-v3", "precision": FP8, "parallelism": UNIT | parallelism}
    return plan(toy.scenario(cluster={"node": "hgx-h800", "count": 4}, deployment=deployment))[0]


KERNELS = ("direct", "deepep_high_throughput", "deepep_low_latency")
PLAIN = {name: planned(all_to_all=name) for name in KERNELS}
HALVES = {name: planned(all_to_all=name, two_batch_overlap=True) for name in KERNELS}
#: By the law alone: measured rows jump where a tile of 128 rows is full, which interpolation smooths, whole or halved.
SMOOTH = {
    name: StepTime(
        replace(each.cost, profile=each.cost.profile.model_copy(update={"tables": {}})), each.max_model_len
    )
    for name, each in HALVES.items()
}
kernels = st.sampled_from(KERNELS)
#: (batch, context each, prompts, new tokens each, past tokens each) on 32 ranks.
steps = st.tuples(
    st.integers(0, 4000),
    st.integers(1, 20_000),
    st.integers(0, 200),
    st.integers(1, 4096),
    st.integers(0, 9000),
).filter(lambda step: step[0] or step[2])


def numbers(batch: int, context: int, prompts: int, new: int, past: int) -> tuple[int, ...]:
    tokens = prompts * new
    pairs = prompts * (new * past + new * (new + 1) // 2)
    return batch, batch * context, tokens, pairs, prompts * (new + past), prompts, new if prompts else 0


def seconds(cost: CostModel, step: tuple[int, ...]) -> float:
    shape = StepShape(*numbers(*step))
    return float(cost.step_s(shape, cost.uses_graph(shape)))


@pytest.mark.parametrize(
    ("decodes", "kernel", "expected"),
    [
        # A 3, D 2, E 4, C 5 a half, half of the layers with experts (so A counts 1.5 in them), 1 outside of layers.
        (False, "deepep_low_latency", 2 * (1 + 1.5) + max(1.5, 2) + max(4, 2) + max(4, 5) + max(1.5, 5)),
        (True, "deepep_low_latency", 2 * (1 + 1.5) + max(2 * (1.5 + 4), 2 * (2 + 5))),
        (False, "deepep_high_throughput",
         2 * (1 + 1.5) + max(2, 1.5 + 40 / 132) + (4 + 40 / 132) + max(5, 4 + 100 / 132) + max(5, 1.5 + 100 / 132)),
    ],
)  # fmt: skip
def test_a_step_in_halves_by_hand(decodes: bool, kernel: str, expected: float) -> None:
    spec = PLAIN["direct"].deployment.model
    spec = spec.model_copy(
        update={"num_layers": 4, "moe": spec.moe.model_copy(update={"num_dense_layers": 2})}
    )
    pieces = {"attention": 3.0, "dispatch": 2.0, "experts": 4.0, "combine": 5.0, "rest": 1.0}
    found = split(spec, Parallelism(all_to_all=kernel), pieces, decodes)
    assert float(found.seconds) == pytest.approx(expected)
    assert float(found.exposed_frac) == pytest.approx((expected - 2 * (1 + 3 + 4)) / (2 * (2 + 5)))


@given(*[st.floats(0, 1)] * 5, st.booleans(), kernels)
def test_a_step_in_halves_lies_between_its_computation_and_its_sum(
    attention: float, dispatch: float, experts: float, combine: float, rest: float, decodes: bool, kernel: str
) -> None:
    pieces = {
        "attention": attention,
        "dispatch": dispatch,
        "experts": experts,
        "combine": combine,
        "rest": rest,
    }
    spec = PLAIN["direct"].deployment.model
    found = split(spec, Parallelism(all_to_all=kernel), pieces, decodes)
    compute, exchange = 2 * (attention + experts + rest), 2 * (dispatch + combine)
    assert compute * (1 - 1e-9) <= found.seconds <= (compute + exchange) * (1 + 1e-9)
    assert found.seconds >= exchange * (1 - 1e-9)
    assert -1e-9 <= found.exposed_frac <= 1 + 1e-9
    for piece, value in pieces.items():
        longer = split(spec, Parallelism(all_to_all=kernel), pieces | {piece: value + 0.1}, decodes)
        assert longer.seconds >= found.seconds


@given(steps)
def test_two_halves_hold_the_whole(step: tuple[int, ...]) -> None:
    whole = rank_shape(StepShape(*numbers(*step)), Parallelism(ep=32, attention_dp=32))
    part = half(whole)
    for field in RankShape._fields:
        if field != "queries":
            assert 2 * getattr(part, field) >= getattr(whole, field) * (1 - 1e-12), field
    assert part.decode_seqs <= (whole.decode_seqs + 1) / 2
    assert part.tokens == part.decode_tokens + part.prefill_tokens


@settings(max_examples=60, deadline=None)
@given(kernels, steps)
def test_overlap_is_never_slower_and_never_faster_than_its_computation(
    kernel: str, step: tuple[int, ...]
) -> None:
    whole, halves = PLAIN[kernel].cost, HALVES[kernel].cost
    assert seconds(halves, step) <= seconds(whole, step) * (1 + 1e-12)
    instant = replace(halves, fabric=Fabric(None, 64, whole.fabric.scale_out._replace(
        bandwidth_bytes_per_s=1e30, latency_s=0.0, launch_s=0.0), whole.profile))  # fmt: skip
    assert seconds(halves, step) >= seconds(instant, step) * (1 - 1e-9)


@settings(max_examples=40, deadline=None)
@given(kernels, steps, st.floats(1, 8), st.floats(1, 8))
def test_more_bandwidth_is_never_slower(kernel: str, step: tuple[int, ...], near: float, far: float) -> None:
    for cost in (PLAIN[kernel].cost, HALVES[kernel].cost):
        link, path = cost.fabric.scale_up, cost.fabric.scale_out
        assert link is not None
        figure = link.bandwidth_bytes_per_s
        wider = link.model_copy(
            update={"bandwidth_bytes_per_s": figure.model_copy(update={"value": figure.value * near})}
        )
        out = path._replace(bandwidth_bytes_per_s=path.bandwidth_bytes_per_s * far)
        faster = replace(cost, fabric=replace(cost.fabric, scale_up=wider, scale_out=out))
        assert seconds(faster, step) <= seconds(cost, step) * (1 + 1e-12)


@settings(max_examples=60, deadline=None)
@given(kernels, steps)
def test_step_times_are_the_cost_model_within_two_percent(kernel: str, step: tuple[int, ...]) -> None:
    step_time = SMOOTH[kernel]
    exact = seconds(step_time.cost, step)
    batch, context, *rest = numbers(*step)
    found = step_time.mixed(batch, context, *rest) if rest[0] else step_time.decode(batch).at(context)
    assert found == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("kernel", KERNELS)
def test_step_times_grow_with_what_is_in_the_step(kernel: str) -> None:
    law = SMOOTH[kernel].cost
    batches, contexts = np.array([1, 31, 32, 33, 64, 65, 700, 3000, 4096]), np.array([1, 100, 3000, 30_000])
    shape = StepShape(batches[:, None], batches[:, None] * contexts)
    found = law.step_s(shape, law.uses_graph(shape))
    assert (np.diff(found, axis=0) >= -1e-12).all()
    assert (np.diff(found, axis=1) >= -1e-12).all()
    step = SMOOTH[kernel]
    prefills = [step.mixed(64, 64_000, n * 32, n * n * 16, n * 32, 32, n) for n in (1, 2, 50, 51, 1000, 4000)]
    assert (np.diff(prefills) >= 0).all()


@pytest.mark.parametrize(
    ("step", "halves"),
    [((9600, 500, 0, 1, 0), True), ((0, 1, 64, 2000, 2400), True), ((4, 100, 0, 1, 0), False)],
)
def test_every_second_of_a_step_in_halves_is_accounted_for(step: tuple[int, ...], halves: bool) -> None:
    each = HALVES["deepep_low_latency"]
    shape = StepShape(*numbers(*step))
    exact = seconds(each.cost, step)
    told = explain(each, "decode" if step[0] else "prefill", shape)
    assert told.step_s == pytest.approx(exact)
    assert sum(told.parts.values()) == pytest.approx(exact)
    assert ("halves" in told.title) == halves
    names = ("batch", "context_tokens", "prefill_tokens", "prefill_pairs", "prefill_keys", "num_prefills",
             "largest_chunk")  # fmt: skip
    runs = {name: np.array([float(value)]) for name, value in zip(names, numbers(*step), strict=True)}
    runs |= {"start_s": np.zeros(1), "end_s": np.array([exact]), "num_steps": np.ones(1)}
    shares = account(each.cost, runs)
    assert sum(shares.operators.values()) == pytest.approx(1)
    assert sum(float(part[0]) for part in shares.parts.values()) == pytest.approx(1)
    for part, value in shares.parts.items():
        assert value[0] == pytest.approx(told.parts[part] / exact, abs=1e-9)


def test_decode_gains_where_few_experts_are_read_twice() -> None:
    """On 144 ranks of two experts many sequences hide most of their exchange; a few gain nothing."""
    wide = {"ep": 144, "attention_dp": 144, "redundant_experts": 32, "all_to_all": "deepep_low_latency"}
    cost = replace(PLAIN["direct"].cost, parallelism=Parallelism.model_validate(wide))
    halves = replace(cost, parallelism=Parallelism.model_validate(wide | {"two_batch_overlap": True}))
    gains = [1 - seconds(halves, step) / seconds(cost, step)
             for step in ((144, 5000, 0, 1, 0), (144 * 88, 5000, 0, 1, 0))]  # fmt: skip
    assert gains[0] == 0
    assert 0.1 < gains[1] < 0.5
