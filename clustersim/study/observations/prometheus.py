"""A scrape of vLLM's /metrics (docs.vllm.ai, "Production Metrics"), in Prometheus' text format.

Of a histogram its mean is taken, sum over count, which is exact; quantiles would be as coarse as its buckets. Label
sets (engines of a server, models) are added up.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from clustersim.errors import InputError, Problem
from clustersim.study.observations import Observed

_LINE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})?\s+(\S+)(?:\s+-?\d+)?$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
#: Histogram, in seconds -> latency.
_HISTOGRAMS = {
    "vllm:time_to_first_token_seconds": "ttft",
    "vllm:request_time_per_output_token_seconds": "tpot",
    "vllm:inter_token_latency_seconds": "itl",
    "vllm:time_per_output_token_seconds": "itl",
    "vllm:e2e_request_latency_seconds": "e2el",
    "vllm:request_queue_time_seconds": "queue",
}
_FACTS = {
    "vllm:num_preemptions_total": "preemptions", "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting", "vllm:kv_cache_usage_perc": "kv_used",
    "vllm:gpu_cache_usage_perc": "kv_used",
}  # fmt: skip


def matches(head: str) -> bool:
    """Say whether a file that begins with `head` is of this format."""
    return not head.lstrip().startswith(("{", "[")) and "vllm:" in head


def read(path: Path, text: str) -> Observed:
    """Read the means of histograms, KV blocks and block size, and a few gauges and counters."""
    sums: dict[str, float] = defaultdict(float)
    config: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.match(line.strip())
        if found is None:
            raise InputError([Problem(f"{path}:{number}", f'is no Prometheus sample: "{line.strip()[:60]}"')])
        name, labels, value = found.groups()
        if name == "vllm:cache_config_info":
            config = dict(_LABEL.findall(labels or ""))
        if name.startswith("vllm:") and not name.endswith("_bucket"):
            sums[name] += _number(path, number, name, value)
    metrics = _means(sums)
    requests = sums.get("vllm:e2e_request_latency_seconds_count", 0.0)

    def each(name: str) -> float | None:
        count = sums.get(f"{name}_count", 0.0)
        return sums[f"{name}_sum"] / count if count else None

    return Observed(
        str(path), "prometheus", metrics, kv_blocks=_whole(path, config, "num_gpu_blocks"),
        block_size=_whole(path, config, "block_size"), num_requests=int(requests) or None,
        mean_input_tokens=each("vllm:request_prompt_tokens"),
        mean_output_tokens=each("vllm:request_generation_tokens"),
        facts={ours: sums[name] for name, ours in _FACTS.items() if name in sums},
    )  # fmt: skip


def _means(sums: Mapping[str, float]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name, ours in _HISTOGRAMS.items():
        count = sums.get(f"{name}_count", 0.0)
        if count and f"{name}_sum" in sums:
            metrics.setdefault(f"mean_{ours}_ms", sums[f"{name}_sum"] / count * 1e3)
    return metrics


def _number(path: Path, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError([Problem(f"{path}:{line}", f'{name} is "{text}", no number')]) from None
    return value if math.isfinite(value) else 0.0


def _whole(path: Path, config: Mapping[str, str], key: str) -> int | None:
    text = config.get(key, "None")
    if text == "None":
        return None
    if not text.isdigit() or int(text) == 0:
        raise InputError(
            [Problem(str(path), f'vllm:cache_config_info has {key}="{text}", no whole number above 0')]
        )
    return int(text)
