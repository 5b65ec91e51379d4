"""How a deployment is operated: cold starts, retries after failures, rolling updates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from clustersim.kinds import Value
from clustersim.units import Seconds


class Startup(Value):
    """What a replica takes to come up: accelerators, weights over storage and network, warm-up."""

    provision_s: Seconds = 30.0
    """Until its process runs on accelerators that are free: scheduling, container start. Assumed: images are on the
    nodes."""
    weights_from: Literal["remote_store", "local_store", "host_memory"] = "remote_store"
    """Where weights lie that no replica brought to the node before. They come at the bandwidth of storage and links;
    loaders of engines often get less of it (9 of 40 GB/s, run-ai/runai-model-streamer#135): say so by the bandwidth of
    the store."""
    keep_in_host_memory: bool = True
    """Whether a node that has loaded a model once loads it from host memory from then on."""
    warm_up_s: Seconds = 45.0
    """Compilation, capture of CUDA graphs, profiling of memory. Assumed; vLLM logs 20 to 90 s
    for this, and warming up DeepGEMM, as block-scaled fp8 does, takes "a couple of minutes" more (vllm/envs.py)."""


class Retries(Value):
    """What becomes of the requests on a replica that dies."""

    max_retries: Annotated[int, Field(ge=0)] = 3
    """After so many a request is lost."""
    backoff_s: Seconds = 0.5
    """From the failure to the next attempt."""
    resume: Literal["restart", "continue"] = "continue"
    """`continue`: the gateway has the tokens streamed so far and sends them along with the prompt, which are prefilled
    (from saved KV where a tier has it); `restart`: the answer begins anew."""


class Update(Value):
    """A rolling update: replicas are drained and started anew, a few at a time."""

    deployment: str
    at_s: Seconds
    max_unavailable: Annotated[int, Field(ge=1)] = 1
    """Replicas out of service at once."""
