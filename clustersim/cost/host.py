"""A serving engine as the cost model sees it: host time a step, CUDA graphs, and the memory it takes and leaves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from clustersim.hardware.figure import Figure
from clustersim.hardware.reference import Ref
from clustersim.kinds import Value
from clustersim.models.step import Numbers
from clustersim.units import Bytes, Seconds


class ServingEngine(Value):
    """What an engine (vLLM, SGLang, TensorRT-LLM) adds to the arithmetic of a step."""

    name: str
    step_overhead_s: Figure[Seconds]
    """Host time of one step whatever is in it: scheduling, input preparation, output processing."""
    sequence_overhead_s: Figure[Seconds]
    """Host time of one step for each sequence in it."""
    overlapped: bool
    """Whether the host prepares the next step while this one runs, so that a step takes the longer of the two."""
    frontend_s: Figure[Seconds] = Figure(value=0.0, source="not given: none is added")
    """Time of a request before the scheduler sees it, at no load: HTTP server, tokeniser, hand-over."""
    kernels: str | None = None
    """Name of the profile that was fitted on this engine's kernels, taken where the accelerator has it."""
    cuda_graph_max_batch: Annotated[int, Field(ge=0)] = 512
    """Decode steps of up to this many sequences a rank replay a captured graph; 0 for none."""
    memory_frac: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of an accelerator's memory the engine may take (vLLM's gpu_memory_utilization)."""
    memory_frac_of: Literal["all", "free"] = "all"
    """What that is a share of: all memory, or what is free for KV once all else has its place (TensorRT-LLM)."""
    reserved_bytes: Figure[Bytes]
    """Memory of the driver's context, libraries and captured graphs on each accelerator."""
    communication_bytes: Figure[Bytes] | None = None
    """Memory of communication buffers on each accelerator of a replica that has several."""
    block_size: Annotated[int, Field(ge=1)] = 16
    """Tokens in one KV block."""

    def host_s(self, sequences: Numbers) -> Numbers:
        """Return the host time of steps with this many sequences (on one data-parallel rank)."""
        return self.step_overhead_s.value + self.sequence_overhead_s.value * sequences

    def step_s(self, device_s: Numbers, sequences: Numbers) -> Numbers:
        """Return the whole time of steps whose work on the device takes `device_s`."""
        host = self.host_s(sequences)
        if not self.overlapped:
            return device_s + host
        longer: Numbers = device_s + _excess(host, device_s)
        return longer


def _excess(host: Numbers, device_s: Numbers) -> Numbers:
    import numpy as np

    return np.maximum(host - device_s, 0.0)


ServingEngineRef = Annotated[ServingEngine, Ref("engines")]
