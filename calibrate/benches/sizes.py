"""How large the cases of a plan are on a device, and whose shapes they have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from calibrate.backend import DeviceBackend
from calibrate.benches import PlanName
from calibrate.case import Case, Work
from clustersim.models.hf_config import load_model
from clustersim.models.layout import Parallelism
from clustersim.models.ops import step_ops
from clustersim.models.precision import Precision
from clustersim.models.spec import GroupedQueryAttention, ModelSpec
from clustersim.models.step import StepShape

#: Most FLOP and bytes of one call: on a core (100 GFLOP/s, 10 GB/s) and on a GPU (1 PFLOP/s, 3 TB/s) a quick call
#: takes a few milliseconds, one of the full plan a second and a tenth of it.
_MOST: Mapping[tuple[str, PlanName], Work] = {
    ("cpu", "quick"): Work(3e8, 60e6),
    ("cpu", "default"): Work(4e9, 256e6),
    ("cpu", "full"): Work(5e10, 2e9),
    ("gpu", "quick"): Work(2e12, 8e9),
    ("gpu", "default"): Work(2e13, 16e9),
    ("gpu", "full"): Work(1e14, 32e9),
}
#: Operands with their copies take at most this share of memory.
_MEMORY_FRAC = 0.2

Shard = tuple[str, int]
"""A model, and over how many tensor-parallel ranks it is cut."""
_SHARDS: Mapping[tuple[str, PlanName], Sequence[Shard]] = {
    ("cpu", "quick"): (),
    ("cpu", "default"): (("qwen3-0.6b", 1),),
    ("cpu", "full"): (("qwen3-0.6b", 1), ("qwen2.5-1.5b", 1), ("llama-3.1-8b", 8)),
    ("gpu", "quick"): (("llama-3.1-8b", 1),),
    ("gpu", "default"): (("llama-3.1-8b", 1), ("llama-3.1-70b", 4), ("llama-3.1-70b", 8), ("qwen3-32b", 2)),
    ("gpu", "full"): (
        ("llama-3.1-8b", 1), ("llama-3.1-70b", 4), ("llama-3.1-70b", 8), ("qwen3-32b", 2), ("qwen3-32b", 8),
        ("llama-3.1-405b", 8), ("deepseek-v3", 8), ("qwen3-30b-a3b", 1), ("gpt-oss-120b", 1),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class AttentionShape:
    """Query heads, KV heads and their size, on one rank."""

    heads: int
    kv_heads: int
    head_dim: int


def fits(work: Work, plan: PlanName, backend: DeviceBackend) -> bool:
    """Say whether a call is small enough for the plan and the device's memory."""
    most = _MOST[backend.kind, plan]
    return work.flops <= most.flops and work.bytes <= min(most.bytes, backend.memory_bytes * _MEMORY_FRAC)


def dtypes(plan: PlanName, backend: DeviceBackend) -> tuple[str, ...]:
    """Return the data types of a plan: quick has the device's first alone."""
    return backend.dtypes[:1] if plan == "quick" else backend.dtypes


def cache_dtypes(plan: PlanName, backend: DeviceBackend) -> tuple[str, ...]:
    """Return the data types of a plan that attention runs in here: fp8 caches need a kernel that torch lacks."""
    return tuple(dtype for dtype in dtypes(plan, backend) if dtype in ("bf16", "fp32"))


def by_worth(cases: Iterable[tuple[int, Case]]) -> list[Case]:
    """Return cases by ascending tier, each once, in the order given within a tier."""
    ordered = [case for _, case in sorted(cases, key=lambda pair: pair[0])]
    return list({case.key: case for case in ordered}.values())


def level(plan: PlanName, dtype_rank: int, place: int, *tiers: int) -> int | None:
    """Return the worth of a case (0 first), None if the plan leaves it out.

    Its tier is the highest of its sizes'; data types after the first and shapes after the second wait one level
    for each. quick takes level 0, default 1, full 2; the first shape's grid is complete one plan earlier.
    """
    found = max(tiers) + dtype_rank + (place >= 2)
    most = {"quick": 0, "default": 1, "full": 2}[plan]
    early = place == 0 and dtype_rank == 0 and plan == "default"
    return found if found <= most + early else None


def tier(value: int, *tiers: Iterable[int]) -> int:
    """Return the index of the first of `tiers` that has the value, their number if none has."""
    return next((index for index, values in enumerate(tiers) if value in values), len(tiers))


@cache
def step_model(kind: str, layers: int) -> ModelSpec:
    """Return the Llama of random weights whose whole steps close the loop: 768 wide on a CPU, 4096 on a GPU.

    Its weights exceed twice any last-level cache met so far (75 MB of bf16 in two layers), so that they are cold.
    """
    width, heads, kv_heads, inner, vocab = (
        (768, 12, 4, 2048, 32000) if kind == "cpu" else (4096, 32, 8, 14336, 128256)
    )
    attention = GroupedQueryAttention(num_heads=heads, num_kv_heads=kv_heads, head_dim=width // heads)
    return ModelSpec(
        name=f"step-{width}x{layers}", family="llama", num_layers=layers, hidden_size=width, vocab_size=vocab,
        attention=attention, intermediate_size=inner, max_context=131072,
    )  # fmt: skip


def models(plan: PlanName, kind: str) -> list[tuple[ModelSpec, int]]:
    """Return the models whose shapes a plan measures, the closing-the-loop one first, with their ranks."""
    return [(step_model(kind, 2), 1), *((load_model(name), tp) for name, tp in _SHARDS[kind, plan])]


def gemm_shapes(plan: PlanName, kind: str) -> list[tuple[int, int]]:
    """Return (n, k) of every matrix product that the simulator finds in a decode step of the plan's models."""
    found: dict[tuple[int, int], None] = {}
    for spec, tp in models(plan, kind):
        layout, precision = Parallelism(tp=tp), Precision.model_validate("bf16")
        for op in step_ops(spec, layout, precision, StepShape.decode(1, 16)):
            if op.family == "gemm":
                k = int(op.depth)
                found[round(float(op.flops) / 2 / k), k] = None
    return list(found)


def attention_shapes(plan: PlanName, kind: str) -> list[AttentionShape]:
    """Return the attention of the plan's models on one rank, and groups of 1, 4 and 8 at head sizes 64 and 128."""
    found: dict[AttentionShape, None] = {}
    for spec, tp in models(plan, kind):
        attention = spec.attention
        if isinstance(attention, GroupedQueryAttention):
            kv_heads = max(1, attention.num_kv_heads // tp)
            found[AttentionShape(attention.num_heads // tp, kv_heads, attention.head_dim)] = None
    generic = [AttentionShape(8 * group, 8, 128) for group in (4, 1, 8)]
    if plan == "full":
        generic += [AttentionShape(8 * group, 8, 64) for group in (1, 8)]
    return list(found | dict.fromkeys(generic))
