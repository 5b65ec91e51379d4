"""The scenario: a fleet, deployments of models on it, and the workloads they serve."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from clustersim.cost.host import ServingEngineRef
from clustersim.cost.speculation import Speculation
from clustersim.economics.prices import Price
from clustersim.hardware.failures import Failure
from clustersim.hardware.link import LinkRef
from clustersim.hardware.node import NodeRef
from clustersim.hardware.site import SiteRef
from clustersim.kinds import OneOf, Value
from clustersim.models.hf_config import ModelRef
from clustersim.models.layout import Parallelism
from clustersim.models.lora import Lora
from clustersim.models.popularity import Popularity
from clustersim.models.precision import Precision
from clustersim.network.topologies import Network
from clustersim.scenario.operation import Retries, Startup, Update
from clustersim.scenario.published import Published
from clustersim.scenario.shapes import listed, settings
from clustersim.scenario.warm_up import WarmUp
from clustersim.scenario.warm_up.rules import Fraction, NoWarmUp
from clustersim.serving.admission import Admission
from clustersim.serving.autoscalers import Autoscaler
from clustersim.serving.routers import Router
from clustersim.serving.schedulers import Scheduler
from clustersim.units import Bytes, BytesPerSecond, PositiveSeconds, Seconds
from clustersim.workload.arrivals.all_at_once import AllAtOnce
from clustersim.workload.workload import Workload

#: What lists hold, as somebody would write it.
_TIER = "{where: host_memory, capacity: 1 TB}"
_FAILURE = "{kind: node, mtbf: 264 d}"
_UPDATE = "{deployment: NAME, at: 1 min}"
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]


class Cluster(Value):
    """Equal nodes joined by one network."""

    name: Name
    node: NodeRef
    count: Annotated[int, Field(ge=1)] = 1
    """Nodes."""
    network: Annotated[Network, OneOf("network")] = Field(default="rail_optimised", validate_default=True)
    """Between the nodes."""
    price: Annotated[Price, OneOf("price")] = Field(default="tco_neocloud", validate_default=True)
    """What an accelerator costs by time."""
    local_store: LinkRef = Field(default="nvme-gen4-8", validate_default=True)
    """The drives of a node."""
    remote_store: LinkRef = Field(default="parallel-file-system", validate_default=True)
    """Where weights and caches lie that no node has; its bandwidth is what one node gets."""
    remote_store_total_bytes_per_s: BytesPerSecond | None = None
    """What all nodes together get of the remote store, per direction; no limit beside theirs if not given."""

    @property
    def num_accelerators(self) -> int:
        """Accelerators in the cluster."""
        return self.node.count * self.count


class SiteFleet(Value):
    """The clusters at one site."""

    site: SiteRef
    clusters: Annotated[list[Cluster], Field(min_length=1)]


class KvTransfer(Value):
    """How KV goes from the replica that prefilled a prompt to the one that decodes it."""

    when: Literal["layer_by_layer", "at_the_end"] = "layer_by_layer"
    """Each layer as it is computed, into blocks that the decoding replica set aside before; or all of it after the
    prefill, when the decoding replica has room."""


class KvTier(Value):
    """Where KV goes that the accelerators' memory has no room for."""

    where: Literal["host_memory", "local_store", "remote_store"]
    """Memory or drives of the replica's own nodes, or the cluster's remote store, which all replicas of one model and
    KV format share."""
    capacity_bytes: Bytes
    """Of the remote store in all, of the others for each replica."""
    store: Literal["when_evicted", "when_computed"] = "when_evicted"
    """What is written to it: what gives way in the tier before it (in the accelerators' memory, if it is the first),
    or besides whatever is computed, at once, so that others find it and it outlives the replica."""
    load: Literal["always", "when_faster"] = "always"
    """Whether what it has of a prefix is loaded in any case, or only where that is expected to take less time than to
    compute it on an idle replica."""


class Deployment(Value):
    """Replicas of one model on one cluster, behind a router."""

    name: Name
    model: ModelRef
    on: str
    """Name of the cluster."""
    replicas: Annotated[int, Field(ge=0)] = 1
    """At the start; as long as the run lasts without an autoscaler."""
    parallelism: Annotated[Parallelism, settings("{tp: 2}")] = Parallelism()
    precision: Precision | None = None
    """Formats of weights, activations and KV cache; those of the published checkpoint if not given."""
    speculation: Annotated[Speculation, OneOf("speculation")] | None = None
    """Who drafts tokens for the model to verify; nobody if not given."""
    lora: Lora | None = None
    """Adapters that it serves beside its model; none if not given."""
    scheduler: Annotated[Scheduler, OneOf("scheduler")] = Field(
        default="chunked_prefill", validate_default=True
    )
    router: Annotated[Router, OneOf("router")] = Field(
        default="least_outstanding_requests", validate_default=True
    )
    admission: Annotated[Admission, OneOf("admission")] = Field(default="accept_all", validate_default=True)
    """Who is turned away when there is more than the deployment can do."""
    serving_engine: ServingEngineRef = Field(default="vllm-v1", validate_default=True)
    autoscaler: Annotated[Autoscaler, OneOf("autoscaler")] | None = None
    """How many replicas there are as load changes; always `replicas` if not given."""
    startup: Annotated[Startup, settings("{weights_from: local_store}")] = Startup()
    retries: Annotated[Retries, settings("{max_retries: 3}")] = Retries()
    prefix_caching: bool = True
    """Whether KV of inputs that begin alike is computed once and kept while there is room (vLLM V1's default)."""
    kv_tiers: Annotated[tuple[Annotated[KvTier, settings(_TIER)], ...], listed("tiers", _TIER)] = ()
    """Where the KV of prefixes goes that the accelerators have no room for, the fastest first; nowhere if not given."""
    prefill_by: str | None = None
    """Name of the deployment that prefills this one's prompts and sends it their KV; this one itself if not given."""
    kv_transfer: Annotated[KvTransfer, settings("{when: at_the_end}")] = KvTransfer()
    max_model_len: Annotated[int, Field(ge=1)] | None = None
    """Longest input plus output in tokens; longer requests are rejected. The model's own limit if not given."""
    expert_imbalance: Annotated[float, Field(ge=1)] = 1.0
    """Load of the busiest expert rank over the mean, beyond what chance and `expert_popularity` give."""
    expert_popularity: Annotated[Popularity, OneOf("expert_popularity")] = Field(
        default="even", validate_default=True
    )
    """How routing spreads tokens over experts; `parallelism.redundant_experts` copies the popular ones."""
    profile: str | None = None
    """Which measured profile of the accelerator to use; the best there is if not given."""

    @property
    def formats(self) -> Precision:
        """Return the formats in use."""
        return self.precision or self.model.native_precision


class Engine(Value):
    """How the simulation advances."""

    mode: Literal["runs", "stepwise"] = "runs"
    """`runs` advances many steps at once in closed form; `stepwise`, its oracle, one at a time."""


class Outputs(Value):
    """What a run writes into its folder beside result.json and the scenario."""

    requests: bool = True
    timeline: bool = True
    report: bool = True
    trace: bool = True
    timeline_bin_s: Seconds = 0.0
    """Width of a row of the timeline; 0 for 1/400 of the run."""
    max_trace_requests: Annotated[int, Field(ge=0)] = 2000
    """Requests drawn in trace.json, evenly spaced over the run."""


class Scenario(Value):
    """Everything about one run. Equal scenarios with equal seeds give equal results, byte for byte."""

    name: str
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    horizon_s: PositiveSeconds | None = None
    """Requests arrive until then, and those that came are served to their end; none: as long as the workloads last."""
    warm_up: Annotated[WarmUp, OneOf("warm_up")] | None = None
    """Which part of the run the results leave out. If not given: a tenth of the horizon, or nothing where there is
    no horizon or where all requests of a workload come at once, since such a run is measured whole."""
    fleet: Annotated[list[SiteFleet], Field(min_length=1)]
    wan: LinkRef = Field(default="wan-400g", validate_default=True)
    """Between each two sites; the light's way is added to its latency."""
    deployments: Annotated[list[Deployment], Field(min_length=1)]
    workloads: Annotated[list[Workload], Field(min_length=1)]
    failures: Annotated[tuple[Annotated[Failure, OneOf("failure")], ...], listed("failures", _FAILURE)] = ()
    """What breaks."""
    updates: Annotated[tuple[Annotated[Update, settings(_UPDATE)], ...], listed("updates", _UPDATE)] = ()
    """Rolling updates."""
    engine: Engine = Engine()
    outputs: Outputs = Outputs()
    published: tuple[Published, ...] = ()
    """What was published of the system described here; the summary of a run says how far off it is."""

    @property
    def warm_up_rule(self) -> WarmUp:
        """Return the warm-up rule in force."""
        if self.warm_up is not None:
            return self.warm_up
        whole = self.horizon_s is None or any(isinstance(w.arrivals, AllAtOnce) for w in self.workloads)
        return NoWarmUp() if whole else Fraction()

    def with_(self, *changes: tuple[str, object]) -> Scenario:
        """Return a copy with some settings changed, e.g. `with_(("deployments.0.precision", "bf16"))`.

        Paths and values are those of `--set`; raises InputError for a path or value that does not fit.
        """
        from clustersim.scenario.load import change

        return change(self, changes)
