"""The experts of one rank: permute, gate and up, activate, down, unpermute, under even and skewed routing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calibrate.backend import DeviceBackend, Timed
from calibrate.benches import Bench, PlanName
from calibrate.benches.operands import draw, num_copies, rotate, rotating
from calibrate.benches.operators import experts
from calibrate.benches.sizes import by_worth, fits, tier
from calibrate.case import Case, Work
from clustersim.models.precision import bytes_per_element

#: Experts on the rank, hidden size, an expert's width, experts a token: Qwen3-30B-A3B on 4 ranks and on 1, Mixtral 8x7B
#: on 4 and on 1, gpt-oss-120b, DeepSeek-V3 on 32; and one small enough for a quick look on a core.
_MODELS = {
    ("cpu", "quick"): ((8, 512, 256, 2),),
    ("cpu", "default"): ((8, 512, 256, 2), (32, 2048, 768, 8)),
    ("cpu", "full"): ((8, 512, 256, 2), (32, 2048, 768, 8), (8, 4096, 3584, 2), (128, 2048, 768, 8)),
    ("gpu", "quick"): ((128, 2048, 768, 8),),
    ("gpu", "default"): ((128, 2048, 768, 8), (8, 4096, 14336, 2), (8, 7168, 2048, 8)),
    ("gpu", "full"): (
        (128, 2048, 768, 8), (8, 4096, 14336, 2), (8, 7168, 2048, 8), (128, 2880, 2880, 4), (32, 2048, 768, 8),
    ),
}  # fmt: skip
_COARSE = (1, 16, 128, 1024, 8192)
_TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


@lru_cache(maxsize=32)
def routing(tokens: int, num_experts: int, top_k: int, skew: int) -> NDArray[np.int64]:
    """Return the experts [tokens, top_k] of each token, all different.

    Even: dealt in turn. Skewed: drawn without replacement with probability ~ 1 / rank^skew, the same in every run
    (Gumbel's top-k trick, arXiv:1903.06059).
    """
    if not skew:
        dealt = np.arange(tokens * top_k).reshape(tokens, top_k) % num_experts
        return dealt.astype(np.int64)
    noise = np.random.default_rng([tokens, num_experts, top_k, skew]).gumbel(size=(tokens, num_experts))
    score = noise - skew * np.log(np.arange(1, num_experts + 1))
    return np.argsort(-score, axis=1)[:, :top_k].astype(np.int64)


class GroupedGemm(Bench):
    """Gated experts over `tokens` tokens, all of them on this rank. Weights are cold, activations warm."""

    name = "grouped_gemm"
    family = "moe"

    def cases(self, plan: PlanName, backend: DeviceBackend) -> Sequence[Case]:
        """Return even routing first, skewed from 16 tokens on. fp32 and fp8 are left out: few serve experts so here."""
        found = []
        for num_experts, hidden, inner, top_k in _MODELS[backend.kind, plan]:
            for tokens in _COARSE[:4] if plan == "quick" else _TOKENS:
                for skew in (0, 1) if tokens >= 16 else (0,):
                    shape = {
                        "tokens": tokens, "experts": num_experts, "hidden": hidden, "inner": inner, "top_k": top_k,
                        "skew": skew,
                    }  # fmt: skip
                    case = Case(self.name, "experts", "bf16", shape)
                    if fits(self.work(case), plan, backend):
                        found.append((2 * tier(tokens, _COARSE) + skew, case))
        return by_worth(found)

    def prepare(self, case: Case, backend: DeviceBackend) -> Timed:
        """Return the layer on rotating weights: a loop over experts on a core, grouped products on a GPU."""
        import torch

        tokens, num_experts, hidden, inner, top_k = (
            case.shape[size] for size in ("tokens", "experts", "hidden", "inner", "top_k")
        )
        chosen = routing(tokens, num_experts, top_k, case.shape["skew"]).reshape(-1)
        sorted_rows = np.argsort(chosen, kind="stable")
        device = backend.torch_device
        order = torch.from_numpy(sorted_rows // top_k).to(device)
        inverse = torch.from_numpy(np.argsort(sorted_rows)).to(device)
        counts = np.bincount(chosen, minlength=num_experts)
        told = counts.tolist()
        if backend.kind == "gpu":
            told = torch.from_numpy(np.cumsum(counts).astype(np.int32)).to(device)
        x, share = draw(backend, case.dtype, tokens, hidden), draw(backend, case.dtype, tokens, top_k, 1)
        sizes = [(num_experts, 2 * inner, hidden), (num_experts, hidden, inner)]
        used = np.count_nonzero(counts) * 3 * hidden * inner * bytes_per_element(case.dtype)
        copies = min(num_copies(used, backend), self._most_copies(case, backend))
        sets = rotating(backend, case.dtype, sizes, copies)
        return rotate(sets, lambda s: experts(x, s[0], s[1], order, inverse, share, told))

    @staticmethod
    def _most_copies(case: Case, backend: DeviceBackend) -> int:
        """Return how many copies of all experts fit in an eighth of memory: few tokens touch few of them."""
        whole = (
            case.shape["experts"]
            * 3
            * case.shape["hidden"]
            * case.shape["inner"]
            * bytes_per_element(case.dtype)
        )
        return max(1, int(backend.memory_bytes / 8 / whole))

    def work(self, case: Case) -> Work:
        """Return the work over the rows and experts that this routing really has; see clustersim.cost.profile."""
        tokens, hidden, inner, top_k = (case.shape[size] for size in ("tokens", "hidden", "inner", "top_k"))
        chosen = routing(tokens, case.shape["experts"], top_k, case.shape["skew"])
        touched, rows, matrices = len(np.unique(chosen)), tokens * top_k, 3
        weights = touched * matrices * hidden * inner * bytes_per_element(case.dtype)
        elements = rows * (4 * hidden + 2 * matrices * inner) + 2 * tokens * hidden
        tiles = rows / 128 * ((matrices - 1) * inner + hidden) / 128
        return Work(
            2.0 * rows * matrices * hidden * inner, weights + 2.0 * elements, max(hidden, inner), tiles
        )
