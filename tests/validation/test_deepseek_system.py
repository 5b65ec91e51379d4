"""DeepSeek's inference system, step by step against what was published of it. Nothing is fitted to these figures.

Sources: deepseek-ai/open-infra-index, 202502OpenSourceWeek, day 6 (means over a day's demand on H800);
lmsys.org/blog/2025-05-05-large-scale-ep (SGLang on H100: a prefill unit at its limit, prompts of 4K, nothing cached).
`pytest -rP` prints the errors.
"""

from __future__ import annotations

import numpy as np
import pytest

from clustersim import library
from clustersim.models.step import StepShape
from clustersim.scenario.load import load_with_plans
from clustersim.scenario.plan import DeploymentPlan
from clustersim.study.explain import explain

DECODE_TOKENS, USER_TOKENS, PREFILL_TOKENS = 14_800, (20, 22), 73_700
CONTEXT, HITS = 4_989, 0.563
#: P + O/2 = 4,989 and P/O = 608/168, the day's input and output tokens.
PROMPT = round(CONTEXT / (1 + 168 / 608 / 2))
SGLANG_PREFILL = 50_302

DECODE, PREFILL = (
    next(each for each in load_with_plans(library.find("scenarios", "deepseek_inference_system"))[1]
         if each.deployment.name == name) for name in ("decode", "prefill")
)  # fmt: skip


def prompts(count: int, tokens: int, hits: float, ranks: int = 32) -> StepShape:
    """Return a step that prefills `count` prompts on each rank."""
    new = round(tokens * (1 - hits))
    pairs, all_of_them = new * (tokens - new) + new * (new + 1) // 2, count * ranks
    return StepShape(0, 0, all_of_them * new, all_of_them * pairs, all_of_them * tokens, all_of_them, new)


def step_s(plan: DeploymentPlan, shape: StepShape) -> float:
    return float(plan.cost.step_s(shape, plan.cost.uses_graph(shape)))


def a_node(plan: DeploymentPlan, tokens_per_s: float) -> float:
    return tokens_per_s / plan.num_accelerators * plan.deployment.replicas * 8


def off(found: float, published: float) -> str:
    return f"{found:,.1f} against {published:,}: {found / published - 1:+.1%}"


def test_the_figures_are_means_over_all_hours_of_the_nodes_in_use() -> None:
    """608 G input and 168 G output tokens a day, at the published rates of a node, take the 226.75 nodes in use."""
    day = 86_400
    assert 608e9 / day / PREFILL_TOKENS + 168e9 / day / DECODE_TOKENS == pytest.approx(226.75, rel=0.002)


def test_a_decode_unit() -> None:
    batches = np.arange(1, 129)
    shape = StepShape(batches * 144, batches * 144 * CONTEXT)
    seconds = DECODE.cost.step_s(shape, DECODE.cost.uses_graph(shape))
    node = batches * 8 / seconds
    for speed in (*USER_TOKENS, 21):
        most = int(batches[1 / seconds >= speed].max())
        print(
            f"at {speed} tokens a second of a user, {most} sequences a rank: {off(node[most - 1], DECODE_TOKENS)}"
        )
        assert abs(node[most - 1] / DECODE_TOKENS - 1) < 0.25
    needed = int(batches[node >= DECODE_TOKENS].min())
    print(
        f"at {DECODE_TOKENS:,} tokens a node, {needed} sequences a rank: {off(1 / seconds[needed - 1], 21)} a user"
    )
    assert 17 < 1 / seconds[needed - 1] < 22
    assert DECODE.memory.kv_tokens / 144 > needed * CONTEXT
    bound = explain(DECODE, "decode", StepShape.decode(88 * 144, CONTEXT)).parts
    print({part: f"{seconds * 1e3:.1f} ms" for part, seconds in bound.items()})
    assert max(bound, key=lambda part: bound[part]) == "memory"


def test_a_prefill_unit() -> None:
    """At its limit it must be above a mean over a day's demand, and near what SGLang measured at its limit."""
    rate = a_node(PREFILL, 8 * 32 * PROMPT / step_s(PREFILL, prompts(8, PROMPT, HITS)))
    print(f"prompts of {PROMPT:,}, {HITS:.1%} cached, at the limit: {off(rate, PREFILL_TOKENS)}")
    assert PREFILL_TOKENS < rate < 2 * PREFILL_TOKENS
    whole = a_node(PREFILL, 4 * 32 * 4096 / step_s(PREFILL, prompts(4, 4096, 0.0)))
    print(f"prompts of 4,096, nothing cached, at the limit: {off(whole, SGLANG_PREFILL)} (SGLang on H100)")
    assert whole == pytest.approx(SGLANG_PREFILL, rel=0.15)
    bound = explain(PREFILL, "prefill", prompts(8, PROMPT, HITS)).parts
    assert max(bound, key=lambda part: bound[part]) == "compute"
