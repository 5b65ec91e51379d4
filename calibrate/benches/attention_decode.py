"""Decode attention over a paged cache: batch by context, groups of 1, 4 and 8 query heads, even and skewed lengths."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from calibrate.backend import DeviceBackend, Timed
from calibrate.benches import Bench, PlanName
from calibrate.benches.operands import draw, num_copies, pool, portable, rotate
from calibrate.benches.paged import groups, lengths, num_pages, paged_decode, scratch
from calibrate.benches.sizes import attention_shapes, by_worth, cache_dtypes, fits, level, tier
from calibrate.case import Case, Work
from clustersim.models.precision import bytes_per_element

_BATCHES, _BATCH_TIERS = tuple(2**power for power in range(10)), ((1, 8, 64, 512), (4, 32, 256))
_CONTEXTS, _CONTEXT_TIERS = (
    tuple(2**power for power in range(4, 18)),
    ((128, 1024, 8192), (512, 4096, 32768, 131072)),
)


class AttentionDecode(Bench):
    """One query token a sequence; the pages of a batch lie in random order in a cache larger than twice the LLC."""

    name = "attention_decode"
    family = "attention_decode"

    def cases(self, plan: PlanName, backend: DeviceBackend) -> Sequence[Case]:
        """Return coarse batches and contexts, then skewed lengths and pages of 64, then the grid between."""
        found = []
        for rank, dtype in enumerate(cache_dtypes(plan, backend)):
            for place, shape in enumerate(attention_shapes(plan, backend.kind)):
                for batch, context in product(_BATCHES, _CONTEXTS):
                    worth = level(
                        plan, rank, place, tier(batch, *_BATCH_TIERS), tier(context, *_CONTEXT_TIERS)
                    )
                    if worth is None:
                        continue
                    also = worth == place == 0 and batch >= 8
                    for more, (page, skew) in enumerate(((16, 0), (16, 1), (64, 0))[: 3 if also else 1]):
                        sizes = {
                            "batch": batch,
                            "context": context,
                            **vars(shape),
                            "page": page,
                            "skew": skew,
                        }
                        case = Case(self.name, "paged_decode", dtype, sizes)
                        if fits(self.work(case), plan, backend):
                            found.append((2 * worth + bool(more), case))
        return by_worth(found)

    def prepare(self, case: Case, backend: DeviceBackend) -> Timed:
        """Return the Triton kernel on a GPU, gathered attention elsewhere, on rotating block tables."""
        import torch

        batch, heads, kv_heads, size, page = (
            case.shape[name] for name in ("batch", "heads", "kv_heads", "head_dim", "page")
        )
        contexts = lengths(batch, case.shape["context"], case.shape["skew"])
        element = bytes_per_element(case.dtype)
        token_bytes = 2 * kv_heads * size * element
        copies = num_copies(sum(contexts) * token_bytes, backend)
        kernel = portable(
            "paged_gqa_decode", backend, case.dtype, copies,
            context=tuple(contexts), heads=heads, kv_heads=kv_heads, head_dim=size, page_size=page,
        )  # fmt: skip
        if kernel:
            return kernel
        each = num_pages(contexts, page)
        elements = copies * each * page * kv_heads * size
        flat = pool(backend, case.dtype, 2 * elements)
        k, v = (
            part.view(-1, kv_heads, page, size) for part in (flat[:elements], flat[elements : 2 * elements])
        )
        dealt = torch.randperm(copies * each, device=backend.torch_device).view(copies, each)
        tables = [groups(contexts, page, kv_heads, token_bytes, part) for part in dealt]
        buffers = scratch(tables[0], page * size, k, 2)
        q = draw(backend, case.dtype, batch, heads, size)
        return rotate(tables, lambda table: paged_decode(q, k, v, table, buffers))

    def work(self, case: Case) -> Work:
        """Return 4 h d FLOP a token of context; the cache once, queries and outputs in 2 bytes; depth, tasks."""
        batch, heads, kv_heads, size = (
            case.shape[name] for name in ("batch", "heads", "kv_heads", "head_dim")
        )
        tokens = batch * case.shape["context"]
        moved = tokens * 2.0 * kv_heads * size * bytes_per_element(case.dtype) + batch * heads * size * 4.0
        return Work(4.0 * tokens * heads * size, moved, case.shape["context"], batch * kv_heads)
