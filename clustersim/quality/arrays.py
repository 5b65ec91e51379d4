"""What arrays of numbers must be before a formula takes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clustersim.records import Floats, Ints


def positive(name: str, values: ArrayLike) -> Floats:
    """Return the values as floats; raises ValueError unless each is above zero (infinity is)."""
    return _checked(name, values, lambda array: array > 0, "above 0")


def not_negative(name: str, values: ArrayLike) -> Floats:
    """Return the values as floats; raises ValueError unless each is zero or more."""
    return _checked(name, values, lambda array: array >= 0, "0 or more")


def probability(name: str, values: ArrayLike) -> Floats:
    """Return the values as floats; raises ValueError unless each lies in [0, 1]."""
    return _checked(name, values, lambda array: (array >= 0) & (array <= 1), "between 0 and 1")


def _checked(name: str, values: ArrayLike, good: Callable[[Floats], NDArray[np.bool_]], must: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    bad = ~good(array)
    if np.any(bad):
        raise ValueError(f"{name} must be {must}, not {float(array[bad].flat[0]):g}")
    return array


def counts(name: str, values: ArrayLike) -> Ints:
    """Return the values as whole numbers; raises ValueError unless each is a whole number of one or more."""
    array = np.asarray(values)
    whole = array.astype(np.int64)
    bad = (whole != array) | (whole < 1)
    if np.any(bad):
        raise ValueError(f"{name} must be a whole number of 1 or more, not {float(array[bad].flat[0]):g}")
    return whole
