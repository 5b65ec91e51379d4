"""One whole engine step of a small Llama with random weights: the check that the parts add up to the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from calibrate.backend import DeviceBackend, Timed
from calibrate.benches import Bench, PlanName, operators
from calibrate.benches.operands import pool
from calibrate.benches.paged import new_cache
from calibrate.benches.sizes import cache_dtypes, step_model
from calibrate.case import Case, Work
from clustersim.models.layout import Parallelism
from clustersim.models.ops import step_ops
from clustersim.models.precision import Precision, bytes_per_element
from clustersim.models.spec import GroupedQueryAttention, ModelSpec
from clustersim.models.step import StepShape

if TYPE_CHECKING:
    from torch import Tensor

_PAGE = 16
#: Layers, batches x contexts of decode steps, tokens of prefill steps: on the grids of the operators and off them.
_STEPS = {
    "quick": ((2,), ((1, 256), (8, 256)), (64,)),
    "default": ((2,), ((1, 256), (8, 256)), (64,)),
    "full": (
        (2, 6),
        tuple((batch, context) for batch in (1, 3, 8, 12, 16, 32) for context in (128, 300, 700, 1024, 2048)),
        (32, 64, 100, 256, 400, 512),
    ),
}  # fmt: skip


def model_of(case: Case) -> ModelSpec:
    """Return the model of a case, to be asked of the simulator."""
    return step_model("cpu" if case.shape["hidden"] == 768 else "gpu", case.shape["layers"])


def shape_of(case: Case) -> StepShape:
    """Return the step of a case, to be asked of the simulator."""
    if case.op == "decode":
        return StepShape.decode(case.shape["batch"], case.shape["context"])
    return StepShape.prefill(case.shape["tokens"])


def _fits(layers: int, dtype: str, backend: DeviceBackend) -> bool:
    weights = step_model(backend.kind, layers).num_parameters * bytes_per_element(dtype)
    return weights <= backend.memory_bytes / 2


class Step(Bench):
    """decode (batch sequences over context tokens, themselves included) and prefill (one sequence of tokens)."""

    name = "step"

    def cases(self, plan: PlanName, backend: DeviceBackend) -> Sequence[Case]:
        """Return the steps with few layers first."""
        depths, decodes, prefills = _STEPS[plan]
        found: list[Case] = []
        for dtype in cache_dtypes(plan, backend):
            for layers in depths:
                if not _fits(layers, dtype, backend):
                    continue
                common = {"layers": layers, "hidden": step_model(backend.kind, layers).hidden_size}
                found += [
                    Case(self.name, "decode", dtype, {**common, "batch": batch, "context": context})
                    for batch, context in decodes
                ]
                found += [
                    Case(self.name, "prefill", dtype, {**common, "tokens": tokens}) for tokens in prefills
                ]
        return found

    def gaps(self, backend: DeviceBackend) -> Sequence[str]:
        """Return that its weights take more than half of memory, where they do."""
        fits = any(_fits(2, dtype, backend) for dtype in backend.dtypes)
        return () if fits else ("step: two layers take more than half of the device's memory",)

    def prepare(self, case: Case, backend: DeviceBackend) -> Timed:
        """Return the step; its weights are cold because they exceed the caches together."""
        llama = Llama(model_of(case), case.dtype, backend)
        if case.op == "decode":
            return llama.decode_step(case.shape["batch"], case.shape["context"])
        return llama.prefill_step(case.shape["tokens"])

    def work(self, case: Case) -> Work:
        """Return FLOP and bytes of all operators the simulator finds in the step; depth and tasks do not add."""
        precision = Precision.model_validate(case.dtype)
        ops = step_ops(model_of(case), Parallelism(), precision, shape_of(case))
        return Work(
            sum(float(op.count * op.flops) for op in ops), sum(float(op.count * op.bytes) for op in ops)
        )


@dataclass(frozen=True)
class _Layer:
    norm: Tensor
    qkv: Tensor
    out: Tensor
    mlp_norm: Tensor
    up: Tensor
    down: Tensor


class Llama:
    """A decoder of random weights on the operators that the benchmarks time, with a paged cache."""

    def __init__(
        self, spec: ModelSpec, dtype: str, backend: DeviceBackend, weights: Tensor | None = None
    ) -> None:
        attention = spec.attention
        assert isinstance(attention, GroupedQueryAttention)
        self.spec, self.dtype, self.backend, self.attention = spec, dtype, backend, attention
        self.device = backend.torch_device
        hidden, inner, size = spec.hidden_size, spec.intermediate_size or 0, attention.head_dim
        wide, narrow = attention.num_heads * size, attention.num_kv_heads * size
        shapes = (
            (hidden,),
            (wide + 2 * narrow, hidden),
            (hidden, wide),
            (hidden,),
            (2 * inner, hidden),
            (hidden, inner),
        )
        self.flat = pool(backend, dtype, spec.num_parameters) if weights is None else weights
        self.used = 0
        self.table = self._take(spec.vocab_size, hidden)
        self.layers = [_Layer(*(self._take(*shape) for shape in shapes)) for _ in range(spec.num_layers)]
        self.norm, self.head = self._take(hidden), self._take(spec.vocab_size, hidden)

    def _take(self, *sizes: int) -> Tensor:
        import math

        begin, self.used = self.used, self.used + math.prod(sizes)
        return self.flat[begin : self.used].view(*sizes)

    def decode_step(self, batch: int, context: int) -> Timed:
        """Return a step that gives each sequence its token number `context`, always the same one."""
        import torch

        heads, kv_heads, size = self.attention.num_heads, self.attention.num_kv_heads, self.attention.head_dim
        caches = [
            new_cache(self.backend, self.dtype, batch, context, heads, kv_heads, size, _PAGE)
            for _ in self.layers
        ]
        ids = torch.randint(self.spec.vocab_size, (batch,), device=self.device)
        positions = torch.full((batch,), context - 1, device=self.device)
        tables = operators.rope_tables(positions, size, self.table.dtype)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return caches[layer].decode(q, k, v).view(batch, heads * size)

        return lambda: operators.sample(self.logits(ids, tables, attend))

    def prefill_step(self, tokens: int) -> Timed:
        """Return a step that reads a prompt, writes its cache and draws its first token."""
        import torch

        heads, kv_heads, size = self.attention.num_heads, self.attention.num_kv_heads, self.attention.head_dim
        pages = -(-tokens // _PAGE)
        caches = [[self.table.new_zeros(pages, kv_heads, _PAGE, size) for _ in "kv"] for _ in self.layers]
        ids = torch.randint(self.spec.vocab_size, (tokens,), device=self.device)
        positions = torch.arange(tokens, device=self.device)
        written, offsets = positions // _PAGE, positions % _PAGE
        tables = operators.rope_tables(positions, size, self.table.dtype)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            k_cache, v_cache = caches[layer]
            operators.kv_write(k, v, k_cache, v_cache, written, offsets)
            q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
            return operators.prefill_attention(q, k, v, None).transpose(1, 2).reshape(tokens, heads * size)

        return lambda: operators.sample(self.logits(ids, tables, attend, last=True))

    def logits(
        self, ids: Tensor, tables: tuple[Tensor, Tensor], attend: Any, *, last: bool = False
    ) -> Tensor:
        """Return logits [T, vocab] of tokens [T], with `last` of the last alone; `attend` is a layer's attention."""
        import torch.nn.functional as f

        residual = f.embedding(ids, self.table)
        x = residual.new_zeros(residual.shape)
        for number in range(len(self.layers)):
            x, residual = self.layer(number, x, residual, tables, attend)
        x, _ = operators.add_norm(x[-1:] if last else x, residual[-1:] if last else residual, self.norm)
        return f.linear(x, self.head)

    def layer(
        self, number: int, x: Tensor, residual: Tensor, tables: tuple[Tensor, Tensor], attend: Any
    ) -> tuple[Tensor, Tensor]:
        """Return x and residual [T, hidden] after a layer; arguments as in `logits`."""
        import torch.nn.functional as f

        heads, kv_heads, size = self.attention.num_heads, self.attention.num_kv_heads, self.attention.head_dim
        layer = self.layers[number]
        x, residual = operators.add_norm(x, residual, layer.norm)
        qkv = f.linear(x, layer.qkv).view(len(x), -1, size)
        q, k, v = qkv.split((heads, kv_heads, kv_heads), 1)
        x = f.linear(attend(number, operators.rope(q, tables), operators.rope(k, tables), v), layer.out)
        x, residual = operators.add_norm(x, residual, layer.mlp_norm)
        return f.linear(operators.silu_mul(f.linear(x, layer.up)), layer.down), residual
