"""What an operator costs however small it is: one element, incremented."""

from __future__ import annotations

from collections.abc import Sequence

from calibrate.backend import DeviceBackend, Timed
from calibrate.backends.call import Call
from calibrate.benches import Bench, PlanName
from calibrate.case import Case, Work


class Launch(Bench):
    """Dispatch from the host (eager) and, on GPUs, replay from a captured graph (graph) of a 1-element operator."""

    name = "launch"

    def cases(self, plan: PlanName, backend: DeviceBackend) -> Sequence[Case]:  # noqa: ARG002 - a contract
        """Return one case for each way to launch, the same in every plan."""
        ways = ("eager", "graph") if backend.kind == "gpu" else ("eager",)
        return [Case(self.name, way, "fp32", {"elements": 1}, cache="warm") for way in ways]

    def prepare(self, case: Case, backend: DeviceBackend) -> Timed:
        """Return x += 1."""
        import torch

        x = torch.zeros(case.shape["elements"], device=backend.torch_device)
        return Call(lambda: x.add_(1.0), capture=case.op == "graph")

    def work(self, case: Case) -> Work:  # noqa: ARG002 - a contract
        """Return nothing: eight bytes are not what takes the time."""
        return Work(0.0, 0.0)
