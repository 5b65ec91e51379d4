"""Decode attention on the latent cache of DeepSeek's models, its expansion absorbed into the projections around it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from calibrate.backend import DeviceBackend, Timed
from calibrate.benches import Bench, PlanName
from calibrate.benches.operands import draw, num_copies, pool, portable, rotate
from calibrate.benches.paged import groups, lengths, num_pages, paged_latent_decode, scratch
from calibrate.benches.sizes import by_worth, cache_dtypes, fits, level, tier
from calibrate.case import Case, Work
from clustersim.models.precision import bytes_per_element

#: Elements of a cached token: latent and rotary key (DeepSeek-V2, V3, Kimi-K2).
LATENT, ROPE = 512, 64
_BATCHES, _BATCH_TIERS = tuple(2**power for power in range(9)), ((1, 8, 64), (4, 32, 256))
_CONTEXTS, _CONTEXT_TIERS = (
    tuple(2**power for power in range(5, 18)),
    ((128, 1024, 8192), (512, 4096, 32768, 131072)),
)


class MlaDecode(Bench):
    """One query token a sequence, 16 heads (DeepSeek-V3 on 8 ranks, V2-Lite) and 128 (V3 under attention DP)."""

    name = "mla_decode"
    family = "mla_decode"

    def cases(self, plan: PlanName, backend: DeviceBackend) -> Sequence[Case]:
        """Return coarse batches and contexts first."""
        found = []
        for rank, dtype in enumerate(cache_dtypes(plan, backend)):
            for place, heads in enumerate((16, 128), start=1):
                for batch, context in product(_BATCHES, _CONTEXTS):
                    worth = level(
                        plan, rank, place, tier(batch, *_BATCH_TIERS), tier(context, *_CONTEXT_TIERS)
                    )
                    sizes = {"batch": batch, "context": context, "heads": heads, "page": 64, "skew": 0}
                    case = Case(self.name, "paged_latent_decode", dtype, sizes)
                    if worth is not None and fits(self.work(case), plan, backend):
                        found.append((worth, case))
        return by_worth(found)

    def prepare(self, case: Case, backend: DeviceBackend) -> Timed:
        """Return the Triton kernel on a GPU, gathered products elsewhere, on rotating block tables."""
        import torch

        batch, heads, page = (case.shape[name] for name in ("batch", "heads", "page"))
        contexts = lengths(batch, case.shape["context"], case.shape["skew"])
        width = LATENT + ROPE
        token_bytes = width * bytes_per_element(case.dtype)
        copies = num_copies(sum(contexts) * token_bytes, backend)
        kernel = portable(
            "paged_mla_decode",
            backend,
            case.dtype,
            copies,
            context=tuple(contexts),
            heads=heads,
            page_size=page,
        )
        if kernel:
            return kernel
        each = num_pages(contexts, page)
        elements = copies * each * page * width
        cache = pool(backend, case.dtype, elements)[:elements].view(-1, 1, page, width)
        dealt = torch.randperm(copies * each, device=backend.torch_device).view(copies, each)
        tables = [groups(contexts, page, 1, token_bytes, part) for part in dealt]
        (buffer,) = scratch(tables[0], page * width, cache, 1)
        q = draw(backend, case.dtype, batch, heads, width)
        return rotate(tables, lambda table: paged_latent_decode(q, cache, table, buffer, LATENT))

    def work(self, case: Case) -> Work:
        """Return scores over 576 and values over 512 elements a head and token; the cache once; depth, tasks."""
        batch, heads = case.shape["batch"], case.shape["heads"]
        tokens, touched = batch * case.shape["context"], 2 * LATENT + ROPE
        element = bytes_per_element(case.dtype)
        moved = tokens * (LATENT + ROPE) * element + batch * heads * touched * max(2.0, element)
        return Work(2.0 * tokens * heads * touched, moved, case.shape["context"], batch)
