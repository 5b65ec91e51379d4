"""The tables of step times against the cost model that they are made from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.cost.step_time import StepTime
from clustersim.models.step import StepShape
from clustersim.scenario.plan import plan

DEPLOYMENTS = {
    "llama-3.1-8b": {},
    "llama-3.1-70b": {"parallelism": {"tp": 4, "pp": 2}},
    "deepseek-r1": {"parallelism": {"ep": 32, "attention_dp": 32}},
    "gpt-oss-120b": {"parallelism": {"tp": 2}},
    "qwen3-235b-a22b": {"parallelism": {"tp": 8, "ep": 8}},
}
PLANS = {
    model: plan(toy.scenario(deployment={"model": model, **rest}))[0] for model, rest in DEPLOYMENTS.items()
}
models = st.sampled_from(sorted(PLANS))


@settings(max_examples=100)
@given(models, st.integers(1, 700), st.floats(0, 1))
def test_decode_is_the_cost_model_within_two_percent(model: str, batch: int, share: float) -> None:
    each = PLANS[model]
    context = round(each.max_model_len**share)
    shape = StepShape.decode(batch, context)
    exact = float(each.cost.step_s(shape, bool(each.cost.uses_graph(shape))))
    assert each.step_time.decode(batch).at(batch * context) == pytest.approx(exact, rel=0.02)


@settings(max_examples=150)
@given(
    models, st.integers(0, 512), st.integers(1, 20_000),
    st.lists(st.integers(1, 8192), min_size=1, max_size=40), st.integers(0, 60_000),
)  # fmt: skip
def test_a_mixed_step_is_the_cost_model_within_two_percent(
    model: str, batch: int, context: int, chunks: list[int], past: int
) -> None:
    each = PLANS[model]
    tokens, keys = sum(chunks), sum(chunks) + past * len(chunks)
    pairs = sum(n * past + n * (n + 1) // 2 for n in chunks)
    numbers = (batch, batch * context, tokens, pairs, keys, len(chunks), max(chunks))
    exact = float(each.cost.step_s(StepShape(*numbers), False))
    assert each.step_time.mixed(*numbers) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("model", PLANS)
def test_a_decode_step_takes_longer_with_more_context_and_more_sequences(model: str) -> None:
    step = PLANS[model].step_time
    most = PLANS[model].max_model_len
    seconds = np.array(
        [[step.decode(b).at(b * c) for c in (1, 100, 3000, most)] for b in (1, 7, 64, 65, 200, 512)]
    )
    assert (np.diff(seconds, axis=1) >= 0).all()
    law = replace(step.cost, profile=step.cost.profile.model_copy(update={"tables": {}}))
    if law.profile == step.cost.profile:
        assert (np.diff(seconds, axis=0) >= -1e-12).all()
    else:  # measured kernels change with the number of rows: a batch may be a little faster than a smaller one
        assert (np.diff(seconds, axis=0) >= -0.05 * seconds[:-1]).all()
        plain = StepTime(law, most)
        again = np.array(
            [[plain.decode(b).at(b * c) for c in (1, 100, 3000, most)] for b in (1, 7, 64, 65, 200, 512)]
        )
        assert (np.diff(again, axis=0) >= -1e-12).all()


@pytest.mark.parametrize("model", PLANS)
def test_a_prefill_takes_longer_with_more_tokens(model: str) -> None:
    step = PLANS[model].step_time
    seconds = [step.mixed(8, 8000, n, n * (n + 1) // 2, n, 1, n) for n in (1, 2, 3, 17, 100, 129, 1000, 8192)]
    assert (np.diff(seconds) >= 0).all()


def test_each_launch_of_an_eager_step_costs_what_the_device_needs() -> None:
    """An A100 takes 4.5 us from one dependent kernel to the next: a tiny model can only decode so fast."""
    cluster = {"node": "dgx-a100"}
    tiny = {"model": "qwen2.5-0.5b", "serving_engine": "ideal"}
    (each,) = plan(toy.scenario(cluster=cluster, deployment=tiny))
    shape = StepShape.decode(1, 100)
    kernels = sum(op.count for op in each.cost.ops(shape))
    assert each.cost.device.kernel_launch_s.value == pytest.approx(4.5e-6)
    assert each.cost.step_s(shape, False) >= kernels * 4.5e-6
    assert each.cost.step_s(shape, True) < each.cost.step_s(shape, False)
