"""What the columns `metric` and `unit` mean: a key of the result, the roofline's quantity, and a scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from clustersim.study.validation.roofline import Roofline
from clustersim.study.validation.rows import RefusedError, Row

Quantity = Literal["TTFT", "TPOT", "E2E", "throughput", "makespan"]


@dataclass(frozen=True)
class Metric:
    """A metric of the table."""

    quantity: Quantity
    """Metrics of one quantity are pooled: means, medians and tails alike."""
    key: str
    """In a result's metrics."""
    unit: str
    per: Literal["", "num_accelerators", "num_decode_accelerators"] = ""
    """What the value is divided by."""

    def predicted(self, metrics: Mapping[str, Any]) -> float:
        """Return the simulated value, in the table's unit; raises RefusedError where it has no bound.

        `metrics` are those of a result, and `num_decode_accelerators`.
        """
        value = metrics[self.key]
        if value is None:
            raise RefusedError("overloaded in the simulation: the metric has no bound")
        return float(value) / self._divisor(metrics)

    def _divisor(self, metrics: Mapping[str, Any]) -> int:
        return int(metrics[self.per]) if self.per else 1

    def bare(self, roofline: Roofline, metrics: Mapping[str, Any]) -> float:
        """Return the roofline's value, in the table's unit, before its constant."""
        if self.quantity == "throughput":
            return roofline.output_tokens_per_s / self._divisor(metrics)
        seconds = {
            "TTFT": roofline.ttft_s, "TPOT": roofline.tpot_s, "E2E": roofline.e2e_s,
            "makespan": roofline.makespan_s,
        }[self.quantity]  # fmt: skip
        return seconds * (1e3 if self.unit == "ms" else 1.0)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "ttft_ms": Metric("TTFT", "mean_ttft_ms", "ms"),
        "ttft_ms_mean": Metric("TTFT", "mean_ttft_ms", "ms"),
        "ttft_ms_p50": Metric("TTFT", "median_ttft_ms", "ms"),
        "ttft_ms_p90": Metric("TTFT", "p90_ttft_ms", "ms"),
        "ttft_ms_p99": Metric("TTFT", "p99_ttft_ms", "ms"),
        "tpot_ms": Metric("TPOT", "mean_tpot_ms", "ms"),
        "tpot_ms_mean": Metric("TPOT", "mean_tpot_ms", "ms"),
        "tpot_ms_p50": Metric("TPOT", "median_tpot_ms", "ms"),
        "tpot_ms_p90": Metric("TPOT", "p90_tpot_ms", "ms"),
        "tpot_ms_p99": Metric("TPOT", "p99_tpot_ms", "ms"),
        "e2e_ms": Metric("E2E", "mean_e2el_ms", "ms"),
        "e2e_ms_mean": Metric("E2E", "mean_e2el_ms", "ms"),
        "e2e_ms_p50": Metric("E2E", "median_e2el_ms", "ms"),
        "e2e_ms_p90": Metric("E2E", "p90_e2el_ms", "ms"),
        "e2e_ms_p99": Metric("E2E", "p99_e2el_ms", "ms"),
        "output_tok_s_total": Metric("throughput", "output_throughput", "tok/s"),
        "output_tok_s_per_gpu": Metric("throughput", "output_throughput", "tok/s/GPU", "num_accelerators"),
        "output_tok_s_per_decode_gpu": Metric(
            "throughput", "output_throughput", "tok/s/decode-GPU", "num_decode_accelerators"
        ),
        "makespan_s": Metric("makespan", "duration", "s"),
    }
)
QUANTITIES: tuple[Quantity, ...] = ("TTFT", "TPOT", "E2E", "throughput", "makespan")


def metric_of(row: Row) -> Metric:
    """Return the meaning of a row's metric; raises RefusedError for one not known or in another unit."""
    metric = METRICS.get(row.metric)
    if metric is None:
        raise RefusedError(f'metric "{row.metric}" is not known')
    if row.unit and row.unit != metric.unit:
        raise RefusedError(f"{row.metric} in {row.unit}: wants {metric.unit}")
    return metric
