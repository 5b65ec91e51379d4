"""Attention of a chunk of a prompt over itself and what was cached before it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from calibrate.backend import DeviceBackend, Timed
from calibrate.benches import Bench, PlanName
from calibrate.benches.operands import num_copies, rotate, rotating
from calibrate.benches.operators import causal_mask, prefill_attention
from calibrate.benches.sizes import attention_shapes, by_worth, cache_dtypes, fits, level, tier
from calibrate.case import Case, Work
from clustersim.models.precision import bytes_per_element

_CHUNKS, _CHUNK_TIERS = tuple(2**power for power in range(4, 14)), ((16, 64, 256, 2048), (512, 1024, 8192))
_PASTS, _PAST_TIERS = (
    (0, *(2**power for power in range(7, 18))),
    ((0, 1024, 8192), (256, 4096, 32768, 131072)),
)
#: The mask of a chunk with a past is a tensor on a core; larger ones would be most of what is read.
_MOST_MASK_BYTES = 64e6


class AttentionPrefill(Bench):
    """One sequence, causal: `tokens` queries over `past` + `tokens` keys."""

    name = "attention_prefill"
    family = "attention_prefill"

    def cases(self, plan: PlanName, backend: DeviceBackend) -> Sequence[Case]:
        """Return coarse chunks and pasts first; the plan's own model before the generic groups."""
        found = []
        for rank, dtype in enumerate(cache_dtypes(plan, backend)):
            for place, shape in enumerate(attention_shapes(plan, backend.kind)):
                for tokens, past in product(_CHUNKS, _PASTS):
                    worth = level(plan, rank, place, tier(tokens, *_CHUNK_TIERS), tier(past, *_PAST_TIERS))
                    case = Case(self.name, "prefill", dtype, {"tokens": tokens, "past": past, **vars(shape)})
                    large = past and tokens * (past + tokens) * 4 > _MOST_MASK_BYTES and backend.kind == "cpu"
                    if worth is not None and not large and fits(self.work(case), plan, backend):
                        found.append((worth, case))
        return by_worth(found)

    def prepare(self, case: Case, backend: DeviceBackend) -> Timed:
        """Return torch's scaled_dot_product_attention; keys and values are cold, the mask is made beforehand."""
        tokens, past, heads, kv_heads, size = (
            case.shape[name] for name in ("tokens", "past", "heads", "kv_heads", "head_dim")
        )
        query, keys = (1, heads, tokens, size), (1, kv_heads, past + tokens, size)
        each = (heads * tokens + 2 * kv_heads * (past + tokens)) * size * bytes_per_element(case.dtype)
        sets = rotating(backend, case.dtype, [query, keys, keys], num_copies(each, backend))
        mask = causal_mask(tokens, past, sets[0][0])
        return rotate(sets, lambda s: prefill_attention(s[0], s[1], s[2], mask))

    def work(self, case: Case) -> Work:
        """Return 4 h d FLOP a causal pair; queries and outputs as activations, keys and values once; depth, tasks."""
        tokens, past, heads, kv_heads, size = (
            case.shape[name] for name in ("tokens", "past", "heads", "kv_heads", "head_dim")
        )
        pairs = tokens * past + tokens * (tokens + 1) // 2
        element = bytes_per_element(case.dtype)
        cache = (past + tokens) * 2.0 * kv_heads * size * element
        return Work(
            4.0 * pairs * heads * size,
            2 * tokens * heads * size * max(2.0, element) + cache,
            past + tokens,
            heads * -(-tokens // 128),
        )
