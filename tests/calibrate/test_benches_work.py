"""`work` counts what the simulator counts: flops, bytes, depth and tasks of the same operator are equal."""

from __future__ import annotations

import math

import pytest

from calibrate.benches import benches
from calibrate.benches.step import Step, model_of, shape_of
from calibrate.case import Case, Work
from clustersim.models.hf_config import load_model
from clustersim.models.layout import Parallelism
from clustersim.models.ops import Op, step_ops
from clustersim.models.precision import Precision
from clustersim.models.step import StepShape


def as_work(op: Op) -> Work:
    return Work(*(float(value) for value in (op.flops, op.bytes, op.depth, op.tasks)))


def close(found: Work, op: Op) -> None:
    assert list(vars(found).values()) == pytest.approx(list(vars(as_work(op)).values()), rel=1e-12), op.name


def ops(model: str, shape: StepShape, precision: str = "bf16", tp: int = 1) -> list[Op]:
    return step_ops(load_model(model), Parallelism(tp=tp), Precision.model_validate(precision), shape)


@pytest.mark.parametrize("precision", ["bf16", "fp32", "fp8"])
def test_gemm_work(precision) -> None:
    found = [
        op for op in ops("llama-3.1-8b", StepShape.decode(24, 24 * 100), precision, 2) if op.family == "gemm"
    ]
    assert len(found) == 5
    for op in found:
        n = round(float(op.flops) / 2 / 24 / float(op.depth))
        case = Case("gemm", "gemm", op.dtype, {"m": 24, "n": n, "k": int(op.depth)})
        close(benches()["gemm"].work(case), op)


@pytest.mark.parametrize("cache", ["bf16", "fp32"])
def test_attention_work(cache) -> None:
    sizes = {"heads": 16, "kv_heads": 4, "head_dim": 128}
    (op,) = (
        op
        for op in ops("llama-3.1-8b", StepShape.decode(6, 700), cache, 2)
        if op.family == "attention_decode"
    )
    close(
        benches()["attention_decode"].work(
            Case(
                "attention_decode",
                "paged_decode",
                op.dtype,
                {"batch": 6, "context": 700, **sizes, "page": 16, "skew": 0},
            )
        ),
        op,
    )
    (op,) = (
        op
        for op in ops("llama-3.1-8b", StepShape.prefill(300, 1000), cache, 2)
        if op.family == "attention_prefill"
    )
    case = Case("attention_prefill", "prefill", op.dtype, {"tokens": 300, "past": 1000, **sizes})
    close(benches()["attention_prefill"].work(case), op)


def test_mla_work() -> None:
    (op,) = (
        op for op in ops("deepseek-v3", StepShape.decode(6, 700), "bf16", 8) if op.family == "mla_decode"
    )
    shape = {"batch": 6, "context": 700, "heads": 16, "page": 64, "skew": 0}
    close(benches()["mla_decode"].work(Case("mla_decode", "paged_latent_decode", "bf16", shape)), op)


def test_expert_work() -> None:
    (op,) = (op for op in ops("mixtral-8x7b", StepShape.prefill(4096)) if op.family == "moe")
    shape = {"tokens": 4096, "experts": 8, "hidden": 4096, "inner": 14336, "top_k": 2, "skew": 0}
    close(benches()["grouped_gemm"].work(Case("grouped_gemm", "experts", "bf16", shape)), op)


def test_elementwise_work() -> None:
    by_name = {
        op.name: op for op in ops("qwen3-0.6b", StepShape.decode(6, 700)) if op.family == "elementwise"
    }
    spec = load_model("qwen3-0.6b")
    attention = {"heads": 16, "kv_heads": 8, "head_dim": 128}
    pairs = {
        "embedding": ("embedding", {"hidden": spec.hidden_size}),
        "input_norm": ("norm", {"hidden": spec.hidden_size}),
        "rope_and_kv_write": ("rope_and_kv_write", attention),
        "mlp_activation": ("activation", {"inner": spec.intermediate_size}),
        "sampling": ("sampling", {"vocab": spec.vocab_size}),
    }
    for name, (op, shape) in pairs.items():
        close(
            benches()["elementwise"].work(Case("elementwise", op, "bf16", {"tokens": 6, **shape})),
            by_name[name],
        )
    top_k = next(op for op in ops("mixtral-8x7b", StepShape.decode(6, 700)) if op.name == "top_k")
    close(
        benches()["elementwise"].work(Case("elementwise", "top_k", "bf16", {"tokens": 6, "experts": 8})),
        top_k,
    )


@pytest.mark.parametrize(
    ("op", "shape"), [("decode", {"batch": 8, "context": 256}), ("prefill", {"tokens": 64})]
)
def test_step_work_is_the_sum_of_its_parts(op, shape) -> None:
    case = Case("step", op, "bf16", {"layers": 2, "hidden": 768, **shape})
    work = Step().work(case)
    parts = step_ops(model_of(case), Parallelism(), Precision.model_validate("bf16"), shape_of(case))
    assert work.flops == pytest.approx(sum(each.count * float(each.flops) for each in parts))
    tokens = shape.get("tokens", 8)
    weights = 2 * 2 * (768 * 1280 + 768 * 768 + 3 * 768 * 2048) * tokens
    head = 2 * 768 * 32000 * shape.get("batch", 1)
    assert work.flops == pytest.approx(weights + head, rel=0.1)
    assert not math.isnan(work.bytes)
