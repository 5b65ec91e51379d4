"""A narrower KV cache holds more tokens and is read faster, by its bytes and no more than that."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import toy

from clustersim import library
from clustersim.models.precision import KV_FORMATS, bytes_per_element
from clustersim.models.step import StepShape
from clustersim.scenario.plan import DeploymentPlan, plan

#: From wide to narrow.
ORDER = ("bf16", "fp8", "nvfp4", "mxfp4", "int4")
MODELS = {
    "llama-3.1-8b": {},
    "llama-3.1-70b": {"parallelism": {"tp": 8}},
    "gpt-oss-120b": {"parallelism": {"tp": 2}},
    "deepseek-v3": {"parallelism": {"ep": 32, "attention_dp": 32}},
}


def made(
    kv_cache: str, model: str = "llama-3.1-8b", node: str = "hgx-h100", **deployment: Any
) -> DeploymentPlan:
    weights = {"deepseek-v3": "fp8_block", "gpt-oss-120b": "mxfp4"}.get(model, "bf16")
    formats = {"weights": weights, "kv_cache": kv_cache}
    given = {"model": model, "precision": formats, **MODELS[model], **deployment}
    return plan(toy.scenario(deployment=given, cluster={"node": node}))[0]


def attention_s(each: DeploymentPlan, context: int, batch: int = 64) -> float:
    ops = [
        op for op in each.cost.ops(StepShape.decode(batch, context)) if op.name.endswith("attention_decode")
    ]
    return sum(op.count * float(each.cost.estimate(op, True).seconds) for op in ops)


@pytest.mark.parametrize("model", MODELS)
def test_half_as_wide_holds_twice_as_many_tokens(model: str) -> None:
    wide, narrow = made("bf16", model).memory, made("fp8", model).memory
    assert narrow.kv_bytes_per_token == wide.kv_bytes_per_token / 2
    if wide.window_bytes:  # what windows leave goes to the blocks
        assert narrow.kv_tokens > 2 * wide.kv_tokens
    else:
        assert narrow.kv_tokens == pytest.approx(2 * wide.kv_tokens, rel=1e-3)


@pytest.mark.parametrize("kv_cache", KV_FORMATS)
@pytest.mark.parametrize("engine", library.names("engines"))
def test_every_cache_with_every_engine(engine: str, kv_cache: str) -> None:
    each, wide = made(kv_cache, serving_engine=engine), made("bf16", serving_engine=engine)
    ratio = bytes_per_element("bf16") / bytes_per_element(kv_cache)
    assert each.memory.kv_tokens == pytest.approx(ratio * wide.memory.kv_tokens, rel=1e-3)
    assert each.step_time.decode(32).at(32 * 4000) > 0


@pytest.mark.parametrize("node", ["hgx-h100", "dgx-a100", "hgx-b200", "mi300x-8"])
@pytest.mark.parametrize("model", MODELS)
def test_a_narrower_cache_is_never_read_slower(node: str, model: str) -> None:
    seconds = [attention_s(made(kv_cache, model, node), 16_000) for kv_cache in ORDER]
    for wider, narrower in pairwise(seconds):
        assert narrower <= wider * 1.001  # a fit of fp8 and one of bf16 differ where arithmetic binds


@pytest.mark.parametrize("kv_cache", ORDER[1:])
def test_bound_by_memory_it_gains_less_than_its_bytes(kv_cache: str) -> None:
    """Widening costs something: kernels on fp8 caches reach less of the bandwidth, and the others are taken alike."""
    ratio = attention_s(made("bf16"), 16_000) / attention_s(made(kv_cache), 16_000)
    most = bytes_per_element("bf16") / bytes_per_element(kv_cache)
    assert 0.75 * most < ratio <= most * 1.001


def test_bound_by_arithmetic_it_gains_little() -> None:
    """Absorbed latent attention multiplies each element by 128 heads: DeepSeek-V3 on H100."""
    wide, narrow = (
        attention_s(made(kv_cache, "deepseek-v3"), 16_000, 2048) for kv_cache in ("bf16", "nvfp4")
    )
    assert 1 < wide / narrow < 0.5 * bytes_per_element("bf16") / bytes_per_element("nvfp4")


def test_prompts_are_not_multiplied_in_what_the_cache_is_held_in() -> None:
    """No kernel multiplies keys of 4 bits: prefill under such a cache takes what it takes under bf16."""

    def prefill_s(kv_cache: str) -> float:
        cost = made(kv_cache, node="hgx-b200").cost
        (op,) = (op for op in cost.ops(StepShape.prefill(8000)) if op.family == "attention_prefill")
        estimate = cost.estimate(op, False)
        assert kv_cache == "bf16" or estimate.evidence == "assumed"
        return float(estimate.seconds)

    for kv_cache in ("int8", "nvfp4", "mxfp4", "int4"):
        assert prefill_s(kv_cache) == pytest.approx(prefill_s("bf16"), rel=0.05)


def test_what_nobody_measured_says_so() -> None:
    for kv_cache in ("int8", "int4", "nvfp4"):
        cost = made(kv_cache).cost
        (op,) = (op for op in cost.ops(StepShape.decode(8, 100)) if op.family == "attention_decode")
        estimate = cost.estimate(op, True)
        assert estimate.evidence == "assumed"
        assert "fp8's in its place" in estimate.source


@pytest.mark.parametrize("kv_cache", ["fp8_block", "int4_group32"])
def test_formats_of_weights_alone_are_no_cache(kv_cache: str) -> None:
    with pytest.raises(
        ValueError, match=f'no engine caches keys and values in "{kv_cache}"; choices: .*nvfp4'
    ):
        made(kv_cache)


def test_a_draft_has_the_cache_of_its_model() -> None:
    drafts = {"kind": "draft_model", "model": "llama-3.1-8b", "num_draft_tokens": 3, "acceptance": 0.7}
    wide, narrow = (
        made(kv_cache, "llama-3.1-70b", speculation=drafts).memory for kv_cache in ("bf16", "fp8")
    )
    assert narrow.kv_bytes_per_token == wide.kv_bytes_per_token / 2
