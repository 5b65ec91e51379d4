"""When text runs out: repeated and synthetic tokens in fresh ones, and how much text there is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from clustersim.quality.arrays import not_negative, positive
from clustersim.quality.ranged import Ranged
from clustersim.records import Floats


def _stock(value: float, low: float, high: float, what: str) -> Ranged[float]:
    source = f"{what}; kb.iter.ca and groups.google.com/g/everything-list, both after Epoch AI; range assumed"
    return Ranged(value=value, low=low, high=high, evidence="published", source=source, date="2026-11-22")


#: Tokens of text that exist.
STOCKS: Mapping[str, Ranged[float]] = MappingProxyType(
    {
        "common_crawl": _stock(100e12, 50e12, 200e12, "Common Crawl"),
        "web": _stock(500e12, 100e12, 1500e12, "the indexed web"),
        "with_private": _stock(3000e12, 500e12, 10000e12, "the web and private text"),
        "largest_run": _stock(15e12, 15e12, 18e12, "the largest training runs of 2024"),
    }
)


def repeated_tokens(unique: ArrayLike, seen: ArrayLike, decay: float = 15.4) -> Floats:
    """Return the fresh tokens that `seen` tokens out of `unique` ones are worth.

    U + U R (1 - exp(-(seen/U - 1) / R)) with R = `decay`, the parameter `repetition_decay` (Muennighoff et al.
    2023, arXiv:2305.16264, eq. 5). Up to one epoch all tokens are fresh; about four epochs are nearly free.
    """
    fresh, passed = positive("unique", unique), not_negative("seen", seen)
    repeats = np.maximum(passed / fresh - 1.0, 0.0)
    return np.asarray(np.minimum(passed, fresh) + fresh * decay * -np.expm1(-repeats / decay))


def with_synthetic(real: ArrayLike, synthetic: ArrayLike, value: float) -> Floats:
    """Return real tokens plus what synthetic ones are worth: `value` of each, from 0 to 1 (no measurement exists)."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"a synthetic token is worth between 0 and 1 real ones, not {value:g}")
    return np.asarray(not_negative("real", real) + value * not_negative("synthetic", synthetic))
