"""Turn a workload into requests: columns in arrays, one row a request."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from clustersim.errors import InputError
from clustersim.randomness import stream
from clustersim.workload.arrays import FloatArray, IntArray
from clustersim.workload.arrivals import OpenArrivals
from clustersim.workload.arrivals.all_at_once import AllAtOnce
from clustersim.workload.arrivals.trace import TraceArrivals
from clustersim.workload.bodies import Bodies, bodies_of
from clustersim.workload.lengths.trace import TraceLengths
from clustersim.workload.prefixes import has_recorded, prefix_table
from clustersim.workload.summary import Summary, summarise
from clustersim.workload.traces import Trace, read_trace
from clustersim.workload.workload import Workload

#: More requests than this in one workload are refused: some hundred bytes each, they would fill any machine's memory.
MAX_REQUESTS = 100_000_000


@dataclass(frozen=True)
class Requests:
    """n requests in order of arrival; every column is (n,).

    `arrival_s` is seconds from the start of the simulation, NaN until a closed loop issues the request;
    `tenant` is the index in `Workload.all_tenants`; `trace_row` is the row of the trace with these
    lengths, -1 for none; `prefix` the row of `prefixes.prefix_table` with which the input begins, -1 for none;
    `adapter` the LoRA adapter, -1 for none.
    """

    arrival_s: FloatArray
    input_tokens: IntArray
    thinking_tokens: IntArray
    answer_tokens: IntArray
    tenant: IntArray
    trace_row: IntArray
    prefix: IntArray
    adapter: IntArray

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def output_tokens(self) -> IntArray:
        """Return thinking + answer (n,)."""
        return self.thinking_tokens + self.answer_tokens

    def summary(self) -> Summary:
        """Return count, span, rate, burstiness, and quantiles of each length."""
        arrival_s = None if np.isnan(self.arrival_s).any() else self.arrival_s
        return summarise(arrival_s, self.input_tokens, self.thinking_tokens, self.answer_tokens)


class Sampler:
    """Draws the tenants, lengths, prompts and adapters of a workload's requests, one after another, as they arrive.

    How many are drawn at a time changes nothing. Each tenant's lengths, the shared lengths and the choices of
    tenant, prompt and adapter have a random stream each.
    """

    def __init__(self, workload: Workload, seed: int, trace: Trace | None = None) -> None:
        self._trace = trace if trace is not None else load_trace(workload)
        self._tenant_rng = stream(seed, workload.name, "tenant")
        weights = np.array([tenant.weight or 1.0 for tenant in workload.all_tenants])
        self._reached = np.cumsum(weights / weights.sum())[:-1]
        self._shared: Bodies | None = None
        if workload.shared_lengths is not None:
            rng = stream(seed, workload.name, "lengths")
            self._shared = bodies_of(workload.shared_lengths, rng, self._trace)
        self._own: dict[int, Bodies] = {}
        for index, tenant in enumerate(workload.tenants):
            if tenant.lengths is not None:
                rng = stream(seed, workload.name, "lengths", tenant.name)
                self._own[index] = bodies_of(tenant.lengths, rng, self._trace)
        self._adapters, self._prefix = workload.adapters, workload.prefix
        self._adapter_rng = stream(seed, workload.name, "adapters")
        self._prefix_rng = stream(seed, workload.name, "prefix")
        self._recorded = has_recorded(workload, self._trace)
        if self._prefix is not None:
            table = prefix_table(workload, self._trace, seed)
            assert table is not None
            self._prefix_tokens = table.tokens()

    def draw(self, num: int) -> Requests:
        """Return the next `num` requests of tenants chosen by weight, not yet issued."""
        tenants = np.searchsorted(self._reached, self._tenant_rng.random(num), side="right").astype(np.int64)
        return self.draw_for(tenants)

    def draw_for(self, tenants: IntArray) -> Requests:
        """Return the next requests, of these tenants (n,), not yet issued."""
        columns = np.empty((4, len(tenants)), dtype=np.int64)
        shared = np.ones(len(tenants), dtype=np.bool_)
        for index, bodies in self._own.items():
            mine = tenants == index
            columns[:, mine] = bodies.draw(int(mine.sum()))
            shared &= ~mine
        if self._shared is not None:
            columns[:, shared] = self._shared.draw(int(shared.sum()))
        inputs, thinking, answers, rows = columns
        num = len(tenants)
        adapters = prefix = np.full(num, -1)
        if self._adapters is not None:
            adapters = self._adapters.draw(self._adapter_rng, num)
        if self._prefix is not None:
            prefix = self._prefix.draw(self._prefix_rng, num)
            inputs = inputs + np.where(prefix >= 0, self._prefix_tokens[prefix], 0)
        elif self._recorded:
            prefix = rows
        return Requests(np.full(num, np.nan), inputs, thinking, answers, tenants, rows, prefix, adapters)


def load_trace(workload: Workload) -> Trace | None:
    """Return the workload's trace, None where it has none; raises InputError where it cannot be used."""
    if workload.trace is None:
        return None
    source = workload.trace
    trace = read_trace(source.path, source.format, sort=source.sort, block_tokens=source.block_tokens)
    if trace.arrival_s is None and isinstance(workload.shared_arrivals, TraceArrivals):
        raise InputError(
            f"{trace.file}: {trace.format} has no arrival times; say when its requests come, e.g. "
            "--set workload.arrivals=all_at_once, or --set 'workload.arrivals={kind: poisson, rate: 5 req/s}'"
        )
    return trace


def whole_trace(workload: Workload, trace: Trace | None) -> Workload:
    """Return the workload, bound to one request a row where its lengths are a trace's and nothing bounds it."""
    if (
        trace is None
        or workload.num_requests is not None
        or not isinstance(workload.shared_lengths, TraceLengths)
    ):
        return workload
    if isinstance(workload.shared_arrivals, TraceArrivals):
        return workload
    return workload.model_copy(update={"num_requests": len(trace.input_tokens)})


def generate(
    workload: Workload, seed: int, horizon_s: float | None = None, trace: Trace | None = None
) -> Requests:
    """Return the requests that arrive in [0, horizon_s), the first `num_requests` of them at most.

    Without a horizon, `num_requests` of them or the whole trace. A closed loop gives `num_requests` that are
    not issued yet; one bound by the horizon alone draws from a `Sampler`. `trace` saves a read.
    """
    if trace is None:
        trace = load_trace(workload)
    if horizon_s is None:
        workload = whole_trace(workload, trace)
    sampler = Sampler(workload, seed, trace)
    if workload.closed_loop is not None:
        if workload.num_requests is None:
            raise ValueError("a closed loop without num_requests draws from a Sampler")
        return sampler.draw(workload.num_requests)
    end_s = math.inf if horizon_s is None else horizon_s
    if workload.shared_arrivals is None:
        times, tenants = _merged_times(workload, seed, end_s)
        requests = sampler.draw_for(tenants)
    else:
        times = _times(
            workload, workload.shared_arrivals, stream(seed, workload.name, "arrivals"), end_s, trace
        )
        requests = sampler.draw(len(times))
    _enough(workload, len(times), horizon_s)
    return replace(requests, arrival_s=times)


def _times(
    workload: Workload, arrivals: object, rng: np.random.Generator, end_s: float, trace: Trace | None
) -> FloatArray:
    """Return the sorted times (n,) of one arrival process, in seconds from the start of the simulation."""
    if isinstance(arrivals, TraceArrivals):
        assert trace is not None
        assert trace.arrival_s is not None
        times = arrivals.replay(trace.arrival_s, workload.rate_scale)
        return times[times < end_s][: workload.num_requests]
    assert isinstance(arrivals, OpenArrivals)
    if workload.num_requests is None and math.isinf(end_s) and getattr(arrivals, "num", None) is None:
        raise InputError(f"{arrivals.kind} arrivals never end: give the workload `num_requests` or a horizon")
    process = arrivals if workload.rate_scale == 1 else arrivals.scaled(workload.rate_scale)
    start_s = workload.start_s
    most = workload.num_requests
    if most is None and not isinstance(process, AllAtOnce):
        most = MAX_REQUESTS + 1
    times = process.times(rng, start_s, start_s + end_s, most) - start_s
    if len(times) > MAX_REQUESTS:
        raise InputError(
            f"{arrivals.kind} arrivals make more than {MAX_REQUESTS:,} requests; lower the rate or the horizon"
        )
    return times[times < end_s]


def _merged_times(workload: Workload, seed: int, end_s: float) -> tuple[FloatArray, IntArray]:
    """Return times and tenants (n,) of tenants that have arrivals of their own, merged by time."""
    each = [
        _times(workload, tenant.arrivals, stream(seed, workload.name, "arrivals", tenant.name), end_s, None)
        for tenant in workload.tenants
    ]
    times = np.concatenate(each)
    tenants = np.repeat(np.arange(len(each)), [len(own) for own in each])
    order = np.argsort(times, kind="stable")[: workload.num_requests]
    return times[order], tenants[order]


def _enough(workload: Workload, num: int, horizon_s: float | None) -> None:
    """Raise InputError where arrivals end before `num_requests`, and no horizon cut them."""
    if horizon_s is None and workload.num_requests is not None and num < workload.num_requests:
        raise InputError(
            f"arrivals end after {num:,} requests, fewer than num_requests: {workload.num_requests:,}"
        )
