"""What stands between the matrix products: memory traffic alone, but many launches, which small batches feel.

Elements moved by each operator, as clustersim.models.ops counts them (T tokens, H hidden, W width of the queries, V of
the keys, I width of the MLP, E experts, S vocabulary): embedding T H 2; norm (with the residual) T H 4;
rope_and_kv_write T ((W + V) 2 + V 3); activation T I 3; sampling T S 6; top_k T E 2. Those that it does not name:
add T H 3; kv_write T V 4; argmax T S. An element has the bytes of the data type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from calibrate.backend import DeviceBackend, Timed
from calibrate.benches import Bench, PlanName, operators
from calibrate.benches.operands import draw, num_copies, pool, rotate, torch_dtype
from calibrate.benches.sizes import attention_shapes, by_worth, fits, models, tier
from calibrate.case import Case, Work
from clustersim.models.precision import bytes_per_element

if TYPE_CHECKING:
    from torch import Tensor

Shape = Mapping[str, int]
_COARSE, _TOKENS = (1, 8, 64, 512, 4096), (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
#: Tokens of the cache written to, enough for it to be cold.
_SLOTS = 2**16


def _rope_and_kv_write(shape: Shape) -> int:
    wide, narrow = shape["heads"] * shape["head_dim"], shape["kv_heads"] * shape["head_dim"]
    return (wide + narrow) * 2 + narrow * 3


#: Elements a token.
ELEMENTS: Mapping[str, Callable[[Shape], int]] = {
    "norm": lambda shape: shape["hidden"] * 4,
    "activation": lambda shape: shape["inner"] * 3,
    "rope_and_kv_write": _rope_and_kv_write,
    "embedding": lambda shape: shape["hidden"] * 2,
    "sampling": lambda shape: shape["vocab"] * 6,
    "top_k": lambda shape: shape["experts"] * 2,
    "add": lambda shape: shape["hidden"] * 3,
    "kv_write": lambda shape: shape["kv_heads"] * shape["head_dim"] * 4,
    "argmax": lambda shape: shape["vocab"],
}
#: Operators whose table or cache is larger than the caches; the others find what the one before left there.
_COLD = ("embedding", "rope_and_kv_write", "kv_write")
#: Those that the cost model does not name: parts of others, measured by the full plan alone.
_PARTS = ("add", "argmax", "kv_write")


class Elementwise(Bench):
    """Operators without FLOP to speak of. Composites are timed as one, as the cost model counts them."""

    name = "elementwise"
    family = "elementwise"

    def cases(self, plan: PlanName, backend: DeviceBackend) -> Sequence[Case]:
        """Return operators of the plan's first model at coarse token counts; full: then between, and of all models."""
        dtype = backend.dtypes[0]
        found = []
        for tokens in _COARSE[:2] if plan == "quick" else _TOKENS:
            for place, op, shape in _shapes(plan, backend.kind):
                if op in _PARTS and plan != "full":
                    continue
                # On a core all are called between others, whose code and weights drive theirs out of the caches.
                cold = op in _COLD or backend.kind == "cpu"
                case = Case(
                    self.name, op, dtype, {"tokens": tokens, **shape}, cache="cold" if cold else "warm"
                )
                worth = tier(tokens, _COARSE) + (place > 0)
                if worth <= (plan == "full") and fits(self.work(case), plan, backend):
                    found.append((worth, case))
        return by_worth(found)

    def prepare(self, case: Case, backend: DeviceBackend) -> Timed:
        """Return the operator, fused on a GPU where `kernels` has it, else torch's operators one after another."""
        return _PREPARE[case.op](case, backend)

    def work(self, case: Case) -> Work:
        """Return the bytes of the elements moved, and nothing else."""
        elements = case.shape["tokens"] * ELEMENTS[case.op](case.shape)
        return Work(0.0, elements * bytes_per_element(case.dtype))


def _shapes(plan: PlanName, kind: str) -> Iterator[tuple[int, str, dict[str, int]]]:
    """Yield the place of a model or attention in the plan, an operator, and its sizes."""
    for place, (spec, _) in enumerate(models(plan, kind)):
        hidden, vocab = {"hidden": spec.hidden_size}, {"vocab": spec.vocab_size}
        yield from (
            (place, "norm", hidden),
            (place, "add", hidden),
            (place, "embedding", {**hidden, **vocab}),
        )
        yield from ((place, "sampling", vocab), (place, "argmax", vocab))
        if spec.intermediate_size:
            yield place, "activation", {"inner": spec.intermediate_size}
    for place, attention in enumerate(attention_shapes(plan, kind)):
        keys = {"kv_heads": attention.kv_heads, "head_dim": attention.head_dim}
        yield from (
            (place, "rope_and_kv_write", {"heads": attention.heads, **keys}),
            (place, "kv_write", keys),
        )
    yield 0, "top_k", {"experts": 128, "top_k": 8}


# ---- operands of each operator -----------------------------------------------------------------------------------


def _norm(case: Case, backend: DeviceBackend) -> Timed:
    sizes = (case.shape["tokens"], case.shape["hidden"])
    x, residual = draw(backend, case.dtype, *sizes), draw(backend, case.dtype, *sizes)
    weight = draw(backend, case.dtype, sizes[1])
    return lambda: operators.add_norm(x, residual, weight)


def _activation(case: Case, backend: DeviceBackend) -> Timed:
    both = draw(backend, case.dtype, case.shape["tokens"], 2 * case.shape["inner"])
    return lambda: operators.silu_mul(both)


def _add(case: Case, backend: DeviceBackend) -> Timed:
    sizes = (case.shape["tokens"], case.shape["hidden"])
    x, y = draw(backend, case.dtype, *sizes), draw(backend, case.dtype, *sizes)
    return lambda: x + y


def _embedding(case: Case, backend: DeviceBackend) -> Timed:
    import torch

    tokens, hidden, vocab = (case.shape[name] for name in ("tokens", "hidden", "vocab"))
    table = pool(backend, case.dtype, vocab * hidden)[: vocab * hidden].view(vocab, hidden)
    copies = num_copies(tokens * hidden * bytes_per_element(case.dtype), backend)
    ids = torch.randint(vocab, (copies, tokens), device=backend.torch_device)
    return rotate(ids.unbind(), lambda chosen: torch.nn.functional.embedding(chosen, table))


def _logits(case: Case, backend: DeviceBackend, call: Callable[[Tensor], Any]) -> Timed:
    logits = draw(backend, case.dtype, case.shape["tokens"], case.shape["vocab"])
    return lambda: call(logits)


def _sampling(case: Case, backend: DeviceBackend) -> Timed:
    return _logits(case, backend, operators.sample)


def _argmax(case: Case, backend: DeviceBackend) -> Timed:
    return _logits(case, backend, lambda logits: logits.argmax(-1))


def _top_k(case: Case, backend: DeviceBackend) -> Timed:
    import torch

    scores = draw(backend, case.dtype, case.shape["tokens"], case.shape["experts"])
    return lambda: torch.topk(scores.softmax(-1), case.shape["top_k"], sorted=False)


Places = tuple["Tensor", "Tensor"]


def _caches(case: Case, backend: DeviceBackend) -> tuple[Tensor, Tensor, Sequence[Places]]:
    """Return caches k and v [P, v, 16, d], and sets of (pages [T], offsets [T]), all different within a set."""
    import torch

    tokens, kv_heads, size = (case.shape[name] for name in ("tokens", "kv_heads", "head_dim"))
    slots = max(_SLOTS, tokens)
    shape, dtype = (slots // 16, kv_heads, 16, size), torch_dtype(case.dtype)
    k, v = (torch.ones(shape, dtype=dtype, device=backend.torch_device) for _ in "kv")
    order = torch.randperm(slots, device=backend.torch_device)
    sets = order[: slots // tokens * tokens].view(-1, tokens)[:1024]
    return k, v, [(chosen // 16, chosen % 16) for chosen in sets]


def _kv_write(case: Case, backend: DeviceBackend) -> Timed:
    k_cache, v_cache, places = _caches(case, backend)
    sizes = (case.shape["tokens"], case.shape["kv_heads"], case.shape["head_dim"])
    k, v = draw(backend, case.dtype, *sizes), draw(backend, case.dtype, *sizes)
    return rotate(places, lambda place: operators.kv_write(k, v, k_cache, v_cache, *place))


def _rope(case: Case, backend: DeviceBackend) -> Timed:
    import torch

    tokens, heads, kv_heads, size = (case.shape[name] for name in ("tokens", "heads", "kv_heads", "head_dim"))
    k_cache, v_cache, places = _caches(case, backend)
    qkv = draw(backend, case.dtype, tokens, heads + 2 * kv_heads, size)
    tables = operators.rope_tables(torch.arange(tokens, device=backend.torch_device), size, qkv.dtype)

    def run(place: Places) -> Tensor:
        q, k, v = qkv.split((heads, kv_heads, kv_heads), 1)  # as the projection leaves them: side by side
        operators.kv_write(operators.rope(k, tables), v, k_cache, v_cache, *place)
        return operators.rope(q, tables)

    return rotate(places, run)


_PREPARE: Mapping[str, Callable[[Case, DeviceBackend], Timed]] = {
    "norm": _norm, "activation": _activation, "add": _add, "embedding": _embedding, "sampling": _sampling,
    "argmax": _argmax, "top_k": _top_k, "kv_write": _kv_write, "rope_and_kv_write": _rope,
}  # fmt: skip
