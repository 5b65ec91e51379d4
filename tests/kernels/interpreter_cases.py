"""Kernels against their torch references in Triton's interpreter, on the CPU.

Collected only by test_kernels_interpreter.py, in a process of its own: TRITON_INTERPRET must be set before triton
is imported, and nothing can be compiled while it is.
"""

import dataclasses

import pytest
import torch
import triton
import triton.language as tl

from kernels import KERNELS, Work
from kernels.dtypes import TOLERANCE, relative_error
from kernels.grouped_gemm import route

assert triton.knobs.runtime.interpret

#: Ragged shapes: odd sizes, single rows, sizes just over a block, groups without rows, contexts that end in mid-page.
SHAPES = {
    "stream_copy": [(1,), (4097,)],
    "stream_triad": [(1,), (10_000,)],
    "stream_read": [(5,), (12_289,)],
    "stream_write": [(4095,)],
    "gemm": [(1, 40, 72), (17, 33, 100), (65, 130, 257), (129, 257, 64)],
    "grouped_gemm": [((3, 0, 17, 1), 70, 33), ((0, 0, 90), 33, 65), ((200, 1, 0, 130), 140, 70)],
    "paged_gqa_decode": [
        ((1, 100, 17), 8, 2, 64, 16, 1),
        ((300, 5), 8, 8, 128, 64, 4),  # splits left empty by the short one
        ((129,), 40, 2, 64, 16, 2),  # 20 heads a KV head: a padded block of 32
        ((70, 640), 4, 1, 128, 64, None),
    ],
    "paged_mla_decode": [((1, 90), 5, 16, 1), ((130, 3), 16, 64, 4), ((50,), 70, 64, None)],
    "rmsnorm": [(3, 7), (2, 1536), (5, 2049)],
    "swiglu": [(3, 5), (2, 2049)],
}
#: tl.dot of bf16 is refused in the interpreter (see the test of it below); e4m3 is widened to fp16 there.
DOTS = {"gemm", "grouped_gemm", "paged_gqa_decode", "paged_mla_decode"}
FP8 = {"gemm", "grouped_gemm"}
CASES = [
    pytest.param(name, shape, dtype, id=f"{name}-{dtype}-{number}")
    for name, shapes in SHAPES.items()
    for number, shape in enumerate(shapes)
    for dtype in ("fp32", "fp16", *(["fp8", "fp8_fnuz"] if name in FP8 else [] if name in DOTS else ["bf16"]))
]


def inputs_of(name, shape, dtype, seed=3):
    return KERNELS[name].make_inputs(KERNELS[name].shape(*shape), dtype, "cpu", seed)


def test_every_kernel_has_shapes() -> None:
    assert set(SHAPES) == set(KERNELS)


@pytest.mark.parametrize(("name", "shape", "dtype"), CASES)
def test_kernel_computes_what_its_reference_says(name, shape, dtype) -> None:
    error = KERNELS[name].error(inputs_of(name, shape, dtype))
    print(f"error {name} {dtype} {error:.2e}")
    assert error <= TOLERANCE[dtype]


@pytest.mark.parametrize("name", list(KERNELS))
def test_inputs_are_reproducible(name) -> None:
    first, again, other = (inputs_of(name, SHAPES[name][-1], "fp16", seed) for seed in (1, 1, 2))
    expected = KERNELS[name].reference(first)
    assert all(map(torch.equal, expected, KERNELS[name].reference(again)))
    if name != "stream_write":
        assert not torch.equal(expected[0], KERNELS[name].reference(other)[0])


@pytest.mark.parametrize("name", ["paged_gqa_decode", "paged_mla_decode"])
def test_decode_never_reads_outside_the_context(name) -> None:
    """Poison with NaN every slot of the cache that belongs to no token: the answer stays."""
    for shape in SHAPES[name]:
        inputs = inputs_of(name, shape, "fp32")
        expected = KERNELS[name].run(inputs)[0].clone()
        caches = [inputs.k, inputs.v] if name == "paged_gqa_decode" else [inputs.cache]
        page_size = caches[0].shape[1]
        owned = torch.zeros(caches[0].shape[:2], dtype=torch.bool)
        for table, length in zip(inputs.tables, inputs.lengths.tolist(), strict=True):
            at = torch.arange(length)
            owned[table[at // page_size].long(), at % page_size] = True
        assert int(owned.sum()) == sum(shape[0])
        for cache in caches:
            cache[~owned] = float("nan")
        assert torch.equal(KERNELS[name].run(inputs)[0], expected)


@pytest.mark.parametrize("name", ["gemm", "grouped_gemm", "rmsnorm", "swiglu", "stream_copy", "stream_triad"])
def test_ragged_edges_write_nothing_outside(name) -> None:
    """Place the output before and after guards in one buffer: they stay."""
    for shape in SHAPES[name]:
        inputs = inputs_of(name, shape, "fp32")
        field = {"rmsnorm": "y", "swiglu": "out"}.get(name, "c")
        out = getattr(inputs, field)
        buffer = torch.full((out.numel() + 8192,), 7.0)
        inside = buffer[4096 : 4096 + out.numel()].view(out.shape)
        KERNELS[name].run(dataclasses.replace(inputs, **{field: inside}))
        assert relative_error(inside, KERNELS[name].reference(inputs)[0]) <= TOLERANCE["fp32"]
        assert (buffer[:4096] == 7).all()
        assert (buffer[4096 + out.numel() :] == 7).all()


@pytest.mark.parametrize("name", sorted(DOTS))
def test_bf16_products_are_refused_not_skipped(name) -> None:
    with pytest.raises(NotImplementedError, match="bf16 is wrong under TRITON_INTERPRET"):
        KERNELS[name].run(inputs_of(name, SHAPES[name][0], "bf16"))


@triton.jit
def square(c, a, size: tl.constexpr):
    at = tl.arange(0, size)[:, None] * size + tl.arange(0, size)[None, :]
    tl.store(c + at, tl.dot(tl.load(a + at), tl.load(a + at)))


def test_why_bf16_products_are_refused() -> None:
    """The interpreter multiplies the bit patterns. When this fails, triton has learnt to: refuse no longer."""
    a, c = torch.ones((16, 16), dtype=torch.bfloat16), torch.empty((16, 16))
    square[(1,)](c, a, size=16)
    assert float(c[0, 0]) == 16 * 0x3F80**2  # 0x3F80 is 1.0; the right answer is 16


def test_work() -> None:
    def work(name, dtype, *shape):
        return KERNELS[name].work(KERNELS[name].shape(*shape), dtype)

    assert work("stream_copy", "fp32", 1000) == Work(0, 8000)
    assert work("stream_triad", "bf16", 1000) == Work(2000, 6000)
    assert work("stream_read", "fp32", 5000) == Work(5000, 20_008)
    assert work("stream_write", "fp16", 1000) == Work(0, 2000)
    assert work("gemm", "bf16", 2, 3, 5) == Work(60, 62)
    assert work("gemm", "fp8", 2, 3, 5) == Work(60, 10 + 15 + 12)
    assert work("grouped_gemm", "bf16", (2, 0, 1), 3, 5) == Work(90, 2 * (15 + 30 + 9))
    gqa = work("paged_gqa_decode", "bf16", (10, 20), 8, 2, 64, 16)
    assert gqa == Work(4 * 30 * 8 * 64, 2 * (2 * 30 * 2 * 64 + 2 * 2 * 8 * 64))
    mla = work("paged_mla_decode", "bf16", (10, 20), 16, 64)
    assert mla == Work(2 * 30 * 16 * (576 + 512), 2 * (30 * 576 + 2 * 16 * (576 + 512)))
    assert work("rmsnorm", "bf16", 3, 100) == Work(1500, 2 * 1300)
    assert work("swiglu", "bf16", 3, 100) == Work(1500, 1800)


def test_route_shares_out_every_row() -> None:
    assert route(10, 4) == (3, 3, 2, 2)
    assert route(1, 4) == (1, 0, 0, 0)
    skewed = route(1000, 8, skew=1.0)
    assert sum(skewed) == 1000
    assert list(skewed) == sorted(skewed, reverse=True)
    assert skewed[0] == pytest.approx(1000 / sum(1 / rank for rank in range(1, 9)), abs=1)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("grouped_gemm", ((0, 0), 8, 8), "at least one row"),
        ("paged_gqa_decode", ((4, 0), 8, 2, 64, 16), "at least one token"),
        ("paged_gqa_decode", ((4,), 8, 3, 64, 16), "8 query heads do not divide over 3"),
        ("paged_mla_decode", ((), 16, 64), "at least one token"),
        ("paged_mla_decode", ((9,), 16, 64, 3), "splits must be a power of two, not 3"),
    ],
)
def test_shapes_that_cannot_be_are_refused(name, shape, message) -> None:
    with pytest.raises(ValueError, match=message):
        inputs_of(name, shape, "fp32")


@pytest.mark.parametrize("name", ["paged_gqa_decode", "paged_mla_decode"])
def test_fp32_decode_is_refused_on_a_device(name) -> None:
    with pytest.raises(NotImplementedError, match="fp32 is for the interpreter"):
        KERNELS[name].make_inputs(KERNELS[name].shape(*SHAPES[name][0]), "fp32", "cuda", 0)
