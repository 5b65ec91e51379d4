"""A workload: requests of one or several tenants, and what they are promised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from clustersim.kinds import OneOf, Part, Value
from clustersim.units import PositiveSeconds, Seconds
from clustersim.workload.adapters import Adapters
from clustersim.workload.arrivals import Arrivals
from clustersim.workload.arrivals.all_at_once import AllAtOnce
from clustersim.workload.arrivals.closed_loop import ClosedLoop
from clustersim.workload.arrivals.trace import TraceArrivals
from clustersim.workload.lengths import RequestLengths
from clustersim.workload.lengths.trace import TraceLengths
from clustersim.workload.prefix_kinds import SharedPrefixes
from clustersim.workload.strategies import AnyStrategy
from clustersim.workload.strategies.chain_of_thought import ChainOfThought

TraceFormat = Literal[
    "auto", "azure", "azure_2023", "azure_2024", "burstgpt", "plain", "mooncake", "vllm_bench", "vllm_custom",
    "sharegpt",
]  # fmt: skip


class Slo(Value):
    """Latencies that a request must meet to count as good; those not given are not looked at."""

    ttft_s: PositiveSeconds | None = None
    """Time to first token, thinking included."""
    ttfo_s: PositiveSeconds | None = None
    """Time to first output: the first token of the answer, after thinking."""
    tpot_s: PositiveSeconds | None = None
    """Time per output token after the first, the request's mean."""
    e2el_s: PositiveSeconds | None = None
    """End-to-end latency."""


class Tenant(Value):
    """One of several sources of requests in a workload."""

    name: Annotated[str, Field(min_length=1)]
    weight: Annotated[float, Field(gt=0)] | None = None
    """Share of the workload's requests, relative to the other tenants' weights."""
    arrivals: Annotated[Arrivals, OneOf("arrivals")] | None = None
    """The tenant's own arrivals, in place of a weight."""
    lengths: Annotated[RequestLengths, OneOf("lengths")] | None = None
    """The tenant's own lengths; without them, the workload's."""
    slo: Slo | None = None
    """The tenant's own promise; without it, the workload's."""
    slo_class: str = "standard"
    """The class that schedulers and routers may tell requests apart by."""
    priority: Annotated[int, Field(strict=True, ge=-(2**31), lt=2**31)] = 0
    """Lower is more urgent, as in vLLM; schedulers by priority look at it."""


Accuracy = Annotated[float, Field(gt=0, lt=1)]


class Tasks(Value):
    """What makes each arrival of a workload a task: a query that a strategy answers with requests of its own.

    The workload's lengths are then those of one plain attempt at the task.
    """

    strategy: AnyStrategy = Field(default=ChainOfThought(), validate_default=True)
    benchmark: str | None = None
    """The problems: they say how often a model is right. See `clustersim list benchmarks`."""
    accuracy: Accuracy | dict[str, Accuracy] | None = None
    """Mean accuracy of single attempts of natural length, by deployment or for all: in place of a benchmark's, or where
    the benchmark does not know the model. An assumption of yours, and marked so."""
    weights: dict[str, str] = Field(default_factory=dict)
    """Deployment -> the trained model that it serves, where the model's own name does not say; see
    `clustersim list trained_models`."""
    difficulty_correlation: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """How far harder problems are thought about longer: correlation of normal scores of difficulty and length.
    Assumed: no measurement found."""
    spread: Annotated[float, Field(ge=0)] = 0.3
    """Standard deviation of ln(thinking tokens) between attempts at one problem. Assumed: no measurement found."""
    forks: Literal["together", "spread"] = "together"
    """Where the samples of one prompt go: `together` to the replica that has its KV, as with an API's `n`, or `spread`
    each where the router says. What goes on from an earlier call is a request of its own, which the router places."""


class TraceSource(Value):
    """A recorded trace."""

    path: Annotated[str, Field(min_length=1)]
    """File of the recorded requests: --set workload.trace.path=FILE."""
    format: TraceFormat = "auto"
    sort: bool = False
    """Order rows by time where the file does not."""
    block_tokens: PositiveInt | None = None
    """Tokens of one block of the file's `hash_ids`; if not given, 512, as in Mooncake's own traces."""


def _names(value: object) -> object:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise ValueError("give the name of a deployment, or a list of names")


class Workload(Value):
    """Requests sent to one deployment, or to several behind a gateway."""

    name: Annotated[str, Field(min_length=1)] = "workload"
    to: Annotated[str | tuple[str, ...] | None, BeforeValidator(_names)] = None
    """Name of the deployment that serves it, or a list of names among which a gateway chooses."""
    gateway: Annotated[Part, OneOf("router")] | None = None
    """Which of several deployments gets each request, or each task as a whole: a router whose targets are deployments.
    `least_outstanding_requests` if not given."""
    gateway_site: str | None = None
    """Site where the gateway stands: requests to deployments at other sites take the light's way there and back, and
    the WAN's latency. No way is counted if not given."""
    source: str = ""
    """Where the figures come from."""
    arrivals: Annotated[Arrivals, OneOf("arrivals")] | None = None
    """When requests come; without it, as in the trace, or as each tenant says."""
    lengths: Annotated[RequestLengths, OneOf("lengths")] | None = None
    """How long requests are; without it, as in the trace, or as each tenant says."""
    tenants: tuple[Tenant, ...] = ()
    trace: TraceSource | None = None
    prefix: Annotated[SharedPrefixes, OneOf("prefix")] | None = None
    """How inputs begin alike, where no trace with hash_ids says so."""
    adapters: Adapters | None = None
    """LoRA adapters that requests ask for; without them, all ask for the model itself."""
    slo: Slo | None = None
    tasks: Tasks | None = None
    """Makes every arrival a task of several requests; without it, each is one request."""
    num_requests: PositiveInt | None = None
    """Stop after this many requests, or tasks."""
    start_s: Seconds = 0.0
    """Time of day at which the simulation begins, for rates that vary with it."""
    rate_scale: Annotated[float, Field(gt=0)] = 1.0
    """Multiplies every arrival rate."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        """Yield what is wrong, each check resting on those before it."""
        yield from self._gateway_problems()
        names = [tenant.name for tenant in self.tenants]
        yield from (f'two tenants are called "{name}"' for name in sorted(names) if names.count(name) > 1)
        for tenant in self.tenants:
            yield from self._tenant_problems(tenant)
        if not self.tenants and self.arrivals is None and self.trace is None:
            yield "a workload needs `arrivals`, a `trace`, or tenants that have `arrivals`"
        if not self.tenants and self.shared_lengths is None:
            yield "a workload needs `lengths` or a `trace`"
        if self.tenants and self.lengths is not None and all(tenant.lengths for tenant in self.tenants):
            yield "every tenant has its own `lengths`, so the workload's would have no effect"
        if self.rate_scale != 1 and isinstance(self.arrivals, ClosedLoop | AllAtOnce):
            yield f"{self.arrivals.kind} has no rate for `rate_scale` to multiply"
        yield from self._trace_problems()

    def _gateway_problems(self) -> Iterator[str]:
        if not isinstance(self.to, tuple):
            for name in ("gateway", "gateway_site"):
                if getattr(self, name) is not None:
                    yield f"`{name}` has no effect on a workload for one deployment: list several in `to`"
        elif len(self.to) < 2 or len(set(self.to)) < len(self.to):
            yield "a list in `to` names two deployments or more, each once"
        elif self.tasks is not None and self.gateway_site is not None:
            yield "`gateway_site` has no effect on tasks, whose requests go to deployments by no gateway: leave it out"

    def _trace_problems(self) -> Iterator[str]:
        replayed = isinstance(self.shared_arrivals, TraceArrivals)
        if self.trace is None:
            if replayed:
                yield "`arrivals: trace` needs a `trace` with a path"
            if isinstance(self.lengths, TraceLengths):
                yield "`lengths: trace` needs a `trace` with a path"
        elif not replayed and not isinstance(self.shared_lengths, TraceLengths):
            yield "the `trace` has no effect: arrivals and lengths are both given otherwise"
        elif replayed and isinstance(self.lengths, TraceLengths) and self.lengths.order == "random":
            yield "`order: random` parts the trace's lengths from its arrivals; leave it out"

    def _tenant_problems(self, tenant: Tenant) -> Iterator[str]:
        own = [other.name for other in self.tenants if other.arrivals is not None]
        who = f'tenant "{tenant.name}"'
        if tenant.arrivals is not None:
            if tenant.weight is not None:
                yield f"{who} has both `weight` and `arrivals`; give it one of them"
            if isinstance(tenant.arrivals, ClosedLoop | TraceArrivals):
                yield f"{who}: {tenant.arrivals.kind} drives a whole workload; make it a workload of its own"
            if self.arrivals is not None:
                yield f"the workload has `arrivals` and so has {who}; give them in one place"
            if isinstance(tenant.arrivals, AllAtOnce) and self.rate_scale != 1:
                yield f"{who}: all_at_once has no rate for `rate_scale` to multiply"
        elif own:
            yield f'{who} needs `arrivals`, as tenant "{own[0]}" has'
        elif self.arrivals is None and self.trace is None:
            yield f"{who} needs `arrivals`, or the workload does"
        elif tenant.weight is None:
            yield f"{who} needs a `weight` or `arrivals`"
        if isinstance(tenant.lengths, TraceLengths):
            yield f"{who}: `lengths: trace` goes on the workload, whose tenants are dealt rows in turn"
        if tenant.lengths is None and self.shared_lengths is None:
            yield f"{who} needs `lengths`, or the workload does"

    @property
    def deployments(self) -> tuple[str, ...]:
        """Return the names of the deployments that serve it; none where it is the only one's."""
        return () if self.to is None else (self.to,) if isinstance(self.to, str) else self.to

    @property
    def shared_arrivals(self) -> Arrivals | None:
        """Return the one arrival process of all tenants, None where each has its own."""
        if self.arrivals is None and not any(tenant.arrivals for tenant in self.tenants):
            return TraceArrivals()
        return self.arrivals

    @property
    def shared_lengths(self) -> RequestLengths | None:
        """Return the lengths of tenants that have none of their own."""
        return TraceLengths() if self.lengths is None and self.trace is not None else self.lengths

    @property
    def closed_loop(self) -> ClosedLoop | None:
        """Return the closed loop that drives this workload, None where arrivals are open."""
        return self.arrivals if isinstance(self.arrivals, ClosedLoop) else None

    @property
    def all_tenants(self) -> tuple[Tenant, ...]:
        """Return the tenants, or one that stands for the whole workload."""
        return self.tenants or (Tenant(name=self.name),)

    def slo_of(self, tenant: int) -> Slo | None:
        """Return the promise made to tenant number `tenant`."""
        return self.all_tenants[tenant].slo or self.slo
