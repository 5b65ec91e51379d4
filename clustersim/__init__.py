"""clustersim: simulate GPU fleets that run reasoning workloads.

import clustersim as cs
scenario = cs.load("reasoning_h100")
result = cs.simulate(scenario, seed=0)
result.requests        # a pandas frame, one row a request
result["p99_ttft_ms"]  # any key of result.json
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clustersim.errors import InputError
    from clustersim.kinds import Part, register
    from clustersim.report.folder import write
    from clustersim.results.result import Result
    from clustersim.scenario.load import load
    from clustersim.scenario.schema import Scenario
    from clustersim.simulation import simulate
    from clustersim.study.compare import Comparison, compare
    from clustersim.study.replicate import Replications, replicate
    from clustersim.study.tradeoff import Tradeoff, tradeoff

#: Public name -> the module it lives in; imported when first used, so that `import clustersim` is quick.
_HOMES: Mapping[str, str] = MappingProxyType(
    {
        "Comparison": "clustersim.study.compare",
        "InputError": "clustersim.errors",
        "Part": "clustersim.kinds",
        "Replications": "clustersim.study.replicate",
        "Result": "clustersim.results.result",
        "Scenario": "clustersim.scenario.schema",
        "Tradeoff": "clustersim.study.tradeoff",
        "compare": "clustersim.study.compare",
        "load": "clustersim.scenario.load",
        "register": "clustersim.kinds",
        "replicate": "clustersim.study.replicate",
        "simulate": "clustersim.simulation",
        "tradeoff": "clustersim.study.tradeoff",
        "write": "clustersim.report.folder",
    }
)
__all__ = [
    "Comparison", "InputError", "Part", "Replications", "Result", "Scenario", "Tradeoff", "compare", "load",
    "register", "replicate", "simulate", "tradeoff", "write",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'clustersim' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
