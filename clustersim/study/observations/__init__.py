"""What a running engine showed: readers of benchmark results and metrics. One file a format.

Each has `matches(head)`, which says whether a file that begins so is of its format, and `read(path, text)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from clustersim.errors import InputError, Problem, unknown
from clustersim.text_file import read_text

#: Statistics of latencies that are compared, in vLLM's names: mean_ttft_ms, p99_tpot_ms, ...
STATISTICS, LATENCIES = (
    ("mean", "median", "p50", "p90", "p95", "p99"),
    ("ttft", "tpot", "itl", "e2el", "queue"),
)
FORMATS = ("vllm_bench", "aiperf", "prometheus")
_HEAD = 65536
_MAX_BYTES = 1e9


@dataclass(frozen=True)
class Observed:
    """One run of an engine: latencies (ms) and throughputs (1/s) under vLLM's names; what is absent is unknown."""

    file: str
    format: str
    metrics: Mapping[str, float]
    kv_blocks: int | None = None
    """KV blocks of one data-parallel rank."""
    block_size: int | None = None
    num_requests: int | None = None
    mean_input_tokens: float | None = None
    mean_output_tokens: float | None = None
    facts: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """What else was read and is only told: preemptions, requests running, share of the cache in use."""


class _Format(Protocol):
    def matches(self, head: str) -> bool: ...

    def read(self, path: Path, text: str) -> Observed: ...


def read_observations(path: str | Path, format: str = "auto") -> Observed:
    """Return what a file shows; raises InputError, with file and line where there is one, for a file of no use."""
    path = Path(path)
    text = read_text(path, _MAX_BYTES, "give the results of one run")
    if not text.strip():
        raise InputError([Problem(str(path), "is empty")])
    name = _detect(path, text[:_HEAD].lstrip(), text) if format == "auto" else format
    if name not in FORMATS:
        raise InputError(unknown("observation format", name, FORMATS))
    found = _module(name).read(path, text)
    if not found.metrics and found.kv_blocks is None:
        raise InputError(
            [Problem(str(path), f"holds no latency, throughput or KV capacity that {name} would have")]
        )
    return found


def _module(name: str) -> _Format:
    module: _Format = import_module(f"{__name__}.{name}")
    return module


def _detect(path: Path, head: str, text: str) -> str:
    found = [name for name in FORMATS if _module(name).matches(head) or _module(name).matches(text)]
    if len(found) == 1:
        return found[0]
    first = head.split("\n", 1)[0][:80]
    what = f"may be {' or '.join(found)}" if found else "is of no known format"
    hint = f'{what}; it begins with "{first}"; give --format one of {", ".join(FORMATS)}'
    raise InputError([Problem(str(path), hint)])
