"""What fills an accelerator's memory adds up, and leaves the KV room that the model's shape says."""

from __future__ import annotations

import pytest
import toy

from clustersim.errors import InputError
from clustersim.scenario.plan import plan

DEPLOYMENTS = {
    # KV bytes a token and rank by hand: 2 (K, V) x layers x KV heads of a rank x head size x 2 bytes.
    "llama-3.1-8b": ({}, 2 * 32 * 8 * 128 * 2),
    "llama-3.1-70b": ({"parallelism": {"tp": 8}}, 2 * 80 * 1 * 128 * 2),
    "qwen3-235b-a22b": ({"parallelism": {"tp": 8, "ep": 8}}, 2 * 94 * 1 * 128 * 2),
    # Every second of the 36 layers keeps a window of 128 tokens alone.
    "gpt-oss-120b": ({"parallelism": {"tp": 2}}, 2 * 18 * 4 * 64 * 2),
    # The latent of 512 and 64 rotary elements, the same on every rank.
    "deepseek-r1": ({"parallelism": {"ep": 32, "attention_dp": 32}}, 61 * (512 + 64) * 2),
}


@pytest.mark.parametrize("model", DEPLOYMENTS)
def test_rows_add_up_and_blocks_fill_what_is_left(model: str) -> None:
    deployment, kv_bytes = DEPLOYMENTS[model]
    (each,) = plan(toy.scenario(deployment={"model": model, **deployment}))
    memory = each.memory
    rows = dict(memory.rows())
    assert sum(rows.values()) == pytest.approx(memory.capacity_bytes)
    assert all(size >= 0 for size in rows.values())
    assert memory.kv_bytes_per_token == kv_bytes
    block = memory.engine.block_size * kv_bytes
    assert 0 <= rows["KV blocks"] - memory.blocks_per_rank * block < block
    assert memory.kv_tokens == memory.tokens_per_rank * each.deployment.parallelism.attention_dp


def test_half_as_wide_weights_leave_more_room() -> None:
    formats = {"weights": "fp8", "activations": "fp8", "kv_cache": "bf16"}
    wide, narrow = (plan(toy.scenario(deployment=extra))[0].memory for extra in ({}, {"precision": formats}))
    assert narrow.weights_bytes < 0.6 * wide.weights_bytes
    assert narrow.kv_tokens > wide.kv_tokens


def test_a_model_that_does_not_fit_is_refused_with_the_mend() -> None:
    with pytest.raises(InputError, match=r"does not fit.*It fits with parallelism: \{tp: \d+\}"):
        plan(toy.scenario(deployment={"model": "llama-3.1-70b"}))
