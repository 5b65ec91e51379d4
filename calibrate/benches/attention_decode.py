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
#: The grids in the order of their worth: their ends, then ever finer between them.
_BATCHES_BY_WORTH = (1, 8, 64, 32, 4, 16, 2, 256)
_CONTEXTS_BY_WORTH = (128, 1024, 8192, 512, 2048, 256, 4096, 32768, 131072)
#: Places on the diagonal by which attention of other models is later than that of the one whose steps are measured.
_OTHERS_WAIT = 6


class AttentionDecode(Bench):
    """One query token a sequence; the pages of a batch lie in random order in a cache larger than twice the LLC."""

    name = "attention_decode"
    family = "attention_decode"

    def cases(self, plan: PlanName, backend: DeviceBackend) -> Sequence[Case]:
        """Return the grid of batches and contexts diagonally, skewed lengths and pages of 64 a little later.

        The plan's own model comes before the generic groups. On a core skewed lengths and larger pages are left to the
        full plan: the cost model knows a batch by its total context, so that they would blur the even ones.
        """
        found = []
        turns, turns_context = (
            {size: sizes.index(size) if size in sizes else len(sizes) for size in grid}
            for sizes, grid in ((_BATCHES_BY_WORTH, _BATCHES), (_CONTEXTS_BY_WORTH, _CONTEXTS))
        )
        for rank, dtype in enumerate(cache_dtypes(plan, backend)):
            for place, shape in enumerate(attention_shapes(plan, backend.kind)):
                for batch, context in product(_BATCHES, _CONTEXTS):
                    worth = level(
                        plan, rank, place, tier(batch, *_BATCH_TIERS), tier(context, *_CONTEXT_TIERS)
                    )
                    if worth is None:
                        continue
                    also = worth == place == 0 and batch >= 8 and (plan == "full" or backend.kind == "gpu")
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
                            turn = turns[batch] + turns_context[context] + _OTHERS_WAIT * (place > 0)
                            found.append((100 * rank + turn + 3 * bool(more), case))
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
        """Return 4 h d FLOP a token of context; the cache once, queries and outputs as activations; depth, tasks."""
        batch, heads, kv_heads, size = (
            case.shape[name] for name in ("batch", "heads", "kv_heads", "head_dim")
        )
        tokens = batch * case.shape["context"]
        element = bytes_per_element(case.dtype)
        moved = tokens * 2.0 * kv_heads * size * element + 2 * batch * heads * size * max(2.0, element)
        return Work(4.0 * tokens * heads * size, moved, case.shape["context"], batch * kv_heads)
