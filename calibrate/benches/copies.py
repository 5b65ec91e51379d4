"""Copies between a GPU's memory and its host's: what offloading a KV cache or loading weights runs at."""

from __future__ import annotations

from collections.abc import Sequence

from calibrate.backend import DeviceBackend, Timed
from calibrate.backends.call import Call
from calibrate.benches import Bench, PlanName
from calibrate.case import Case, Work

_SIZES = {
    "quick": (2**12, 2**20, 2**26),
    "default": tuple(2**power for power in range(12, 29, 2)),
    "full": tuple(2**power for power in range(12, 31)),
}
_WAYS = ("h2d", "d2h", "both")


class Copies(Bench):
    """h2d, d2h and both at once, from pinned memory (1) and pageable (0); bytes are those of one direction."""

    name = "copies"

    def cases(self, plan: PlanName, backend: DeviceBackend) -> Sequence[Case]:
        """Return the largest first, pinned before pageable; none on a CPU."""
        if backend.kind != "gpu":
            return []
        return [
            Case(self.name, op, "u8", {"bytes": size, "pinned": pinned}, cache="warm")
            for pinned in (1, 0)
            for size in reversed(_SIZES[plan])
            for op in _WAYS
            if (pinned or op != "both") and size <= backend.memory_bytes / 8
        ]

    def prepare(self, case: Case, backend: DeviceBackend) -> Timed:
        """Return the copy; both directions go on two streams, and the caller's stream waits for both."""
        import torch

        size, pinned = case.shape["bytes"], bool(case.shape["pinned"])
        host = [torch.ones(size, dtype=torch.uint8, pin_memory=pinned) for _ in range(2)]
        device = [torch.ones(size, dtype=torch.uint8, device=backend.torch_device) for _ in range(2)]
        if case.op == "h2d":
            return Call(lambda: device[0].copy_(host[0], non_blocking=True), capture=pinned)
        if case.op == "d2h":
            return Call(lambda: host[1].copy_(device[1], non_blocking=True), capture=pinned)
        streams = [torch.cuda.Stream() for _ in range(2)]

        def run() -> None:
            here = torch.cuda.current_stream()
            for stream, (target, origin) in zip(
                streams, ((device[0], host[0]), (host[1], device[1])), strict=True
            ):
                stream.wait_stream(here)
                with torch.cuda.stream(stream):
                    target.copy_(origin, non_blocking=True)
            for stream in streams:
                here.wait_stream(stream)

        return run

    def work(self, case: Case) -> Work:
        """Return the bytes over the link, of both directions where both are used."""
        return Work(0.0, case.shape["bytes"] * (2.0 if case.op == "both" else 1.0))

    def gaps(self, backend: DeviceBackend) -> Sequence[str]:
        """Return why a CPU has none."""
        return () if backend.kind == "gpu" else ("copies: a CPU's memory is its host's",)
