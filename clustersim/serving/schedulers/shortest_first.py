"""Short requests first: what knowing lengths is worth."""

from __future__ import annotations

from typing import ClassVar, Literal

from clustersim.kinds import register
from clustersim.records import RequestRecords
from clustersim.serving.contracts import Queue
from clustersim.serving.queues import Key, Ordered
from clustersim.serving.schedulers.continuous import Continuous


@register("scheduler")
class ShortestFirst(Continuous):
    """Chunked prefill that admits the request with the fewest tokens; long ones can starve.

    Lengths are counted as if they were known at arrival, so that it bounds from above what a scheduler with a length
    predictor can do (e.g. Fu et al., NeurIPS 2024, "Efficient LLM Scheduling by Learning to Rank").
    """

    kind: Literal["shortest_first"] = "shortest_first"
    by: Literal["output", "input", "total"] = "output"
    """Which tokens count."""

    examples: ClassVar[tuple[dict[str, object], ...]] = ({}, {"by": "total", "max_num_seqs": 16})

    def queue(self, records: RequestRecords) -> Queue:
        """Return an empty queue by length, then arrival."""

        def key(request: int) -> Key:
            output = records.thinking_tokens[request] + records.answer_tokens[request]
            tokens = {"output": output, "input": records.input_tokens[request]}
            return tokens.get(self.by, sum(tokens.values())), records.arrival_s[request]

        return Ordered(key)
