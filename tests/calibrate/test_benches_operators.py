"""The operators compute what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from calibrate.backend import DeviceBackend  # noqa: E402
from calibrate.backends import pick_backend  # noqa: E402
from calibrate.benches import operators, paged  # noqa: E402
from calibrate.benches.grouped_gemm import routing  # noqa: E402
from calibrate.benches.operands import draw  # noqa: E402
from calibrate.benches.step import Llama, model_of  # noqa: E402
from calibrate.case import Case  # noqa: E402


@cache
def cpu() -> DeviceBackend:
    return pick_backend("cpu")


def naive_attention(q, k, v, scale):
    """q [h, d] over k, v [L, h, d] in fp32."""
    weights = (torch.einsum("hd,lhd->hl", q.float(), k.float()) * scale).softmax(-1)
    return torch.einsum("hl,lhd->hd", weights, v.float())


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("contexts", "heads", "kv_heads", "page"),
    [([5], 4, 4, 16), ([40, 40, 17], 12, 4, 16), ([300, 70, 70, 1], 8, 1, 64), ([33] * 9, 2, 2, 16)],
)
def test_paged_decode_is_attention(dtype, contexts, heads, kv_heads, page, monkeypatch) -> None:
    size = 64
    monkeypatch.setattr(
        paged, "GATHER_BYTES", 100 * 2 * kv_heads * size * 4
    )  # so that batches split into groups
    pages = paged.num_pages(contexts, page)
    k, v = (draw(cpu(), dtype, pages, kv_heads, page, size) * 20 for _ in "kv")
    q = draw(cpu(), dtype, len(contexts), heads, size) * 20
    dealt = torch.randperm(pages)
    batch = paged.groups(contexts, page, kv_heads, 2 * kv_heads * size * 4, dealt)
    places = torch.cat([torch.arange(len(contexts))[group.where] for group in batch])
    assert sorted(places.tolist()) == list(range(len(contexts)))
    out = paged.paged_decode(q, k, v, batch, paged.scratch(batch, page * size, k, 2))
    used = 0
    for row, length in enumerate(contexts):
        each = -(-length // page)
        own = dealt[used : used + each]
        used += each
        keys, values = (
            c[own]
            .transpose(1, 2)
            .reshape(-1, kv_heads, size)[:length]
            .repeat_interleave(heads // kv_heads, 1)
            for c in (k, v)
        )
        expected = naive_attention(q[row], keys, values, size**-0.5)
        torch.testing.assert_close(
            out[row].float(), expected, atol=1e-5 if dtype == "fp32" else 0.03, rtol=0.02
        )


def test_latent_decode_is_attention_on_the_latent() -> None:
    contexts, heads, page = [70, 70, 9], 16, 64
    pages = paged.num_pages(contexts, page)
    rows = draw(cpu(), "fp32", pages, 1, page, 576) * 20
    q = draw(cpu(), "fp32", 3, heads, 576) * 20
    batch = paged.groups(contexts, page, 1, 576 * 4, torch.arange(pages))
    (buffer,) = paged.scratch(batch, page * 576, rows, 1)
    out = paged.paged_latent_decode(q, rows, batch, buffer, 512)
    flat, used = rows.view(-1, 1, 576), 0
    for row, length in enumerate(contexts):
        own = flat[used : used + length].expand(-1, heads, -1)
        used += -(-length // page) * page
        torch.testing.assert_close(
            out[row], naive_attention(q[row], own, own[..., :512], 192**-0.5), atol=1e-4, rtol=1e-3
        )


@pytest.mark.parametrize(("tokens", "past"), [(7, 0), (1, 20), (16, 5)])
def test_prefill_sees_its_past_and_no_future(tokens, past) -> None:
    q, k, v = (
        draw(cpu(), "fp32", 1, count, length, 32) * 20
        for count, length in ((6, tokens), (2, past + tokens), (2, past + tokens))
    )
    out = operators.prefill_attention(q, k, v, operators.causal_mask(tokens, past, q))
    for i in range(tokens):
        keys, values = (c[0, :, : past + i + 1].transpose(0, 1).repeat_interleave(3, 1) for c in (k, v))
        torch.testing.assert_close(
            out[0, :, i], naive_attention(q[0, :, i], keys, values, 32**-0.5), atol=1e-5, rtol=1e-4
        )


def test_sequences_of_like_length_are_attended_to_together() -> None:
    """Uneven batches cost little more than even ones, so that their total context says how long they take."""
    contexts = [300, 24, 160, 200, 290, 90, 100, 170, 30]
    pages = paged.num_pages(contexts, 16)
    found = paged.groups(contexts, 16, 4, 1024, torch.arange(pages))
    assert [group.sequences for group in found] == [5, 2, 2]
    assert isinstance(paged.groups([128] * 4, 16, 4, 1024, torch.arange(32))[0].where, slice)
    assert paged.groups([128] * 4, 16, 4, 1024, torch.arange(32))[0].beyond is None


def test_lengths_add_up() -> None:
    for batch, context in ((8, 2), (8, 128), (9, 100), (64, 1024)):
        for skew in (0, 1):
            found = paged.lengths(batch, context, skew)
            assert len(found) == batch
            assert sum(found) == batch * context
            assert found == sorted(found, reverse=True)
            assert min(found) > 0
    with pytest.raises(ValueError, match="too few"):
        paged.lengths(2, 128, 1)


@pytest.mark.parametrize("skew", [0, 1])
def test_experts_are_the_sum_of_each_tokens_experts(skew) -> None:
    tokens, experts, hidden, inner, top_k = 13, 6, 32, 16, 2
    chosen = routing(tokens, experts, top_k, skew)
    assert all(len(set(row)) == top_k for row in chosen.tolist())
    flat = chosen.reshape(-1)
    rows = np.argsort(flat, kind="stable")
    x, share = draw(cpu(), "fp32", tokens, hidden) * 20, draw(cpu(), "fp32", tokens, top_k, 1)
    up, down = draw(cpu(), "fp32", experts, 2 * inner, hidden), draw(cpu(), "fp32", experts, hidden, inner)
    order, inverse = torch.from_numpy(rows // top_k), torch.from_numpy(np.argsort(rows))
    out = operators.experts(x, up, down, order, inverse, share, np.bincount(flat, minlength=experts).tolist())
    for token in range(tokens):
        expected = torch.zeros(hidden)
        for place, expert in enumerate(chosen[token]):
            gate, straight = (up[expert] @ x[token]).chunk(2)
            expected += share[token, place] * (down[expert] @ (torch.sigmoid(gate) * gate * straight))
        torch.testing.assert_close(out[token], expected, atol=1e-5, rtol=1e-4)


def test_routing_is_even_or_skewed_and_the_same_every_time() -> None:
    even = np.bincount(routing(128, 8, 2, 0).reshape(-1))
    assert even.tolist() == [32] * 8
    skewed = np.bincount(routing(1024, 8, 2, 1).reshape(-1))
    assert skewed[0] > 2 * skewed[-1]
    routing.cache_clear()
    assert np.array_equal(np.bincount(routing(1024, 8, 2, 1).reshape(-1)), skewed)


def test_small_operators() -> None:
    x, residual, weight = (draw(cpu(), "fp32", *sizes) * 20 for sizes in ((5, 8), (5, 8), (8,)))
    y, total = operators.add_norm(x, residual, weight)
    torch.testing.assert_close(total, x + residual)
    torch.testing.assert_close(y, total / (total.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight)
    both = draw(cpu(), "fp32", 3, 10) * 20
    torch.testing.assert_close(
        operators.silu_mul(both), both[:, :5] / (1 + (-both[:, :5]).exp()) * both[:, 5:]
    )
    logits = torch.full((4, 50), -100.0)
    logits[range(4), [3, 7, 49, 0]] = 100.0
    assert operators.sample(logits).tolist() == [3, 7, 49, 0]


def test_sampling_follows_the_softmax() -> None:
    torch.manual_seed(0)
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).expand(20000, 3)
    share = torch.bincount(operators.sample(logits), minlength=3) / 20000
    torch.testing.assert_close(share, torch.tensor([0.5, 0.3, 0.2]), atol=0.015, rtol=0)


def test_rope_turns_pairs_by_position() -> None:
    x = draw(cpu(), "fp32", 3, 2, 8)
    positions = torch.tensor([0, 5, 11])
    out = operators.rope(x, operators.rope_tables(positions, 8, torch.float32))
    torch.testing.assert_close(out[0], x[0])
    pairs, turned = (torch.complex(t[..., :4], t[..., 4:]) for t in (x, out))
    angle = positions[:, None, None] * 10000.0 ** (-torch.arange(4) * 2 / 8)
    torch.testing.assert_close(
        turned, pairs * torch.polar(torch.ones_like(angle), angle), atol=1e-5, rtol=1e-4
    )


def test_kv_write_fills_the_slots_and_nothing_else() -> None:
    k, v = draw(cpu(), "fp32", 3, 2, 4), draw(cpu(), "fp32", 3, 2, 4)
    k_cache, v_cache = torch.zeros(5, 2, 16, 4), torch.zeros(5, 2, 16, 4)
    pages, offsets = torch.tensor([4, 0, 4]), torch.tensor([15, 3, 2])
    operators.kv_write(k, v, k_cache, v_cache, pages, offsets)
    for i in range(3):
        torch.testing.assert_close(k_cache[pages[i], :, offsets[i]], k[i])
        torch.testing.assert_close(v_cache[pages[i], :, offsets[i]], v[i])
    assert int((k_cache != 0).sum()) == k.numel()


def test_decoding_continues_a_prefill() -> None:
    """Prefill of T + 1 tokens and decode of token T over the cache of T give the same logits."""
    case = Case("step", "prefill", "fp32", {"layers": 2, "hidden": 768, "tokens": 20})
    llama = Llama(model_of(case), "fp32", cpu())
    ids, attention = torch.arange(20) * 37, llama.attention
    heads, kv_heads, size = attention.num_heads, attention.num_kv_heads, attention.head_dim
    kept: list[tuple] = []

    def whole(layer, q, k, v):
        kept.append((k, v))
        q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        return operators.prefill_attention(q, k, v, None).transpose(1, 2).reshape(len(ids), heads * size)

    def tables(positions):
        return operators.rope_tables(positions, size, torch.float32)

    expected = llama.logits(ids, tables(torch.arange(20)), whole, last=True)
    caches = [paged.new_cache(cpu(), "fp32", 1, 20, heads, kv_heads, size, 16) for _ in llama.layers]
    for layer, (k, v) in enumerate(kept):
        each = caches[layer]
        pages = each.batch[0].rows.view(kv_heads, 2)[0] // kv_heads
        at = torch.arange(19)
        operators.kv_write(k[:19], v[:19], each.k, each.v, pages[at // 16], at % 16)
    found = llama.logits(
        ids[-1:],
        tables(torch.tensor([19])),
        lambda layer, q, k, v: caches[layer].decode(q, k, v).view(1, heads * size),
    )
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    assert found.shape == (1, llama.spec.vocab_size)


_INTERPRETED = """
import torch
from calibrate.benches import benches, paged
from calibrate.case import Case
from kernels.paged import gather

class Gpu:  # on the processor, through Triton's interpreter
    kind, torch_device, cache_bytes, memory_bytes = "gpu", "cpu", 2**14, 2**33

cache = paged.new_cache(Gpu(), "fp16", 3, 21, 4, 2, 64, 16)
assert type(cache).__name__ == "_KernelCache"
q, k, v = (torch.randn(3, heads, 64).half() for heads in (4, 2, 2))
out, x = cache.decode(q, k, v), cache.inputs
for row in range(3):
    keys, values = (gather(each, x.tables[row], 21) for each in (x.k, x.v))
    assert torch.equal(keys[20], k[row].float()) and torch.equal(values[20], v[row].float())
    keys, values = keys.repeat_interleave(2, 1), values.repeat_interleave(2, 1)
    weights = (torch.einsum("hd,lhd->hl", q[row].float(), keys) / 8).softmax(-1)
    torch.testing.assert_close(out[row].float(), torch.einsum("hl,lhd->hd", weights, values), atol=5e-3, rtol=5e-3)
shape = dict(batch=2, context=20, heads=4, kv_heads=2, head_dim=64, page=16, skew=0)
(out,) = benches()["attention_decode"].prepare(Case("attention_decode", "paged_decode", "fp16", shape), Gpu())()
assert out.shape == (2, 4, 64) and out.isfinite().all()
shape = dict(batch=1, context=20, heads=16, page=64, skew=0)
(out,) = benches()["mla_decode"].prepare(Case("mla_decode", "paged_latent_decode", "fp16", shape), Gpu())()
assert out.shape == (1, 16, 512) and out.isfinite().all()
"""


def test_the_kernels_of_the_gpu_path_fit_the_benchmarks() -> None:
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", _INTERPRETED], check=True, env=environment)
