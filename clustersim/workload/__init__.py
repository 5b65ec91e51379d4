"""What a cluster is asked to do: when requests come, how long they are, and within what time."""

from clustersim.workload.generate import Requests, Sampler, generate
from clustersim.workload.lengths import Lengths
from clustersim.workload.traces import Trace, read_trace
from clustersim.workload.workload import Slo, Tenant, TraceSource, Workload

__all__ = [
    "Lengths",
    "Requests",
    "Sampler",
    "Slo",
    "Tenant",
    "Trace",
    "TraceSource",
    "Workload",
    "generate",
    "read_trace",
]
