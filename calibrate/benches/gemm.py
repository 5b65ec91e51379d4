"""Matrix products of linear layers: every token count up to 17, then the edges of tiles and one beyond them."""

from __future__ import annotations

from collections.abc import Sequence

from calibrate.backend import DeviceBackend, Timed
from calibrate.benches import Bench, PlanName
from calibrate.benches.operands import draw, num_copies, pool, rotate, rotating
from calibrate.benches.sizes import by_worth, dtypes, fits, gemm_shapes, level, tier
from calibrate.case import Case, Work
from clustersim.models.precision import bytes_per_element

_COARSE = (1, 16, 64, 256, 1024, 4096)
_MEDIUM = (2, 4, 8, 17, 32, 128, 512, 2048, 8192)
_EDGES = (24, 33, 48, 65, 96, 129, 192, 257, 384, 513, 768, 1025, 1536, 3072, 6144)
#: Rows of the product. Tiles are 16 to 256 wide: an edge and one beyond it show the step of another tile.
TOKENS = tuple(sorted({*range(1, 18), *_COARSE, *_MEDIUM, *_EDGES}))
#: Token counts in the order of their worth: ends of the grid, then ever finer between them.
_BY_WORTH = (1, 16, 64, 4, 32, 256, 8, 2, 128, 1024, 512, 17, 4096, 2048, 8192)
#: Token counts of the model whose whole steps are measured that come before the first of other shapes.
_OTHERS_WAIT = 5
_SQUARES = {"cpu": (256, 512, 1024, 2048), "gpu": (1024, 2048, 4096, 8192)}


class Gemm(Bench):
    """C[m,n] = A[m,k] W[n,k]^T. Weights are cold; activations warm, as the operator before left them."""

    name = "gemm"
    family = "gemm"

    def cases(self, plan: PlanName, backend: DeviceBackend) -> Sequence[Case]:
        """Return the plan's (n, k) at coarse token counts, then between them; types after the first stay coarse.

        Walks the grid of token counts and shapes diagonally, so that the first cases already span both.
        """
        squares = [(side, side) for side in _SQUARES[backend.kind]]
        shapes = gemm_shapes(plan, backend.kind) + (squares[1:3] if plan == "quick" else squares)
        found = []
        own = shapes[:5]  # of the model whose whole steps are measured
        place = {m: index for index, m in enumerate(_BY_WORTH)}
        for rank, dtype in enumerate(dtypes(plan, backend)):
            for m in TOKENS:
                for n, k in shapes:
                    case = Case(self.name, "gemm", dtype, {"m": m, "n": n, "k": k})
                    worth = level(plan, rank, 0 if (n, k) in own else 1, tier(m, _COARSE, _MEDIUM))
                    if worth is not None and fits(self.work(case), plan, backend):
                        turn = place.get(m, len(place)) + _OTHERS_WAIT * ((n, k) not in own)
                        found.append((len(place) * 2 * max(rank, worth - 1) + turn, case))
        return by_worth(found)

    def prepare(self, case: Case, backend: DeviceBackend) -> Timed:
        """Return torch's linear layer (the vendor's library; for fp8 its scaled product with scales of 1)."""
        import torch

        m, n, k = (case.shape[size] for size in "mnk")
        copies = num_copies(n * k * bytes_per_element(case.dtype), backend) if case.cache == "cold" else 1
        if case.dtype == "fp8":
            a, one = (
                pool(backend, "fp8", m * k)[: m * k].view(m, k),
                torch.ones((), device=backend.torch_device),
            )
            weights = rotating(backend, "fp8", [(n, k)], copies)
            return rotate(
                weights,
                lambda w: torch._scaled_mm(a, w[0].t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16),
            )
        x = draw(backend, case.dtype, m, k)
        return rotate(
            rotating(backend, case.dtype, [(n, k)], copies), lambda w: torch.nn.functional.linear(x, w[0])
        )

    def work(self, case: Case) -> Work:
        """Return 2mnk FLOP; operands in their type, the result in that of activations; depth k; tiles of 128 x 128."""
        m, n, k = (case.shape[size] for size in "mnk")
        element = bytes_per_element(case.dtype)
        return Work(
            2.0 * m * n * k,
            (m + n) * k * element + m * n * max(2.0, element),
            k,
            float(-(-m // 128) * -(-n // 128)),
        )
