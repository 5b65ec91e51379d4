"""Equal service to tenants: the virtual token counter."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from clustersim.kinds import register
from clustersim.records import RequestRecords
from clustersim.serving.contracts import Queue
from clustersim.serving.queues import ByTenant
from clustersim.serving.schedulers.continuous import Continuous

_Weight = Annotated[float, Field(ge=0)]


@register("scheduler")
class Fair(Continuous):
    """Chunked prefill that admits from the tenant which was given least service so far (Sheng et al., OSDI 2024).

    Service is input_weight x input tokens + output_weight x output tokens, counted a replica. The paper counts output
    tokens as they are made; here a request is charged in full when it is admitted, its output length as if it were
    known (the paper's variant with a perfect length predictor), so that the order never changes in the middle of a run.
    A preempted request is not charged again. Two tenants that both have requests waiting are charged within the largest
    cost of a request of each other. Tenants of different workloads are different.
    """

    kind: Literal["fair"] = "fair"
    input_weight: _Weight = 1.0
    """Cost of an input token, found in the cache or not (the paper's w_p)."""
    output_weight: _Weight = 2.0
    """Cost of an output token (the paper's w_q)."""

    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"output_weight": 4, "max_num_seqs": 16})

    def cost(self, records: RequestRecords, request: int) -> float:
        """Return the service that a request is charged for."""
        output = records.thinking_tokens[request] + records.answer_tokens[request]
        return self.input_weight * records.input_tokens[request] + self.output_weight * output

    def queue(self, records: RequestRecords) -> Queue:
        """Return an empty line for each tenant."""
        return ByTenant(
            lambda request: (records.workload[request], records.tenant[request]),
            lambda request: self.cost(records, request),
            lambda request: not records.num_preemptions[request],
        )
