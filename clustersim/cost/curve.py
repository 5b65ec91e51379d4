"""Piecewise-linear curves and their sums over arithmetic sequences: what lets a replica advance many steps at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np

from clustersim.records import Floats, Ints


class Memo(dict[int, float]):
    """A curve's values at whole numbers, each worked out when first asked for."""

    def __init__(self, curve: Curve) -> None:
        super().__init__()
        self.curve = curve

    def __missing__(self, x: int) -> float:
        value = self[x] = self.curve.at(x)
        return value


class Curve:
    """y(x), linear between knots and continued with the end slopes; x in tokens, y in seconds.

    `knots` are increasing integers, `values` finite floats, at least two of each.
    """

    __slots__ = ("slopes", "values", "xs")

    def __init__(self, knots: Sequence[int], values: Sequence[float]) -> None:
        self.xs = list(knots)
        self.values = list(values)
        steps = [
            (after - before) / (right - left)
            for left, right, before, after in zip(knots, knots[1:], values, values[1:], strict=False)
        ]
        self.slopes = [*steps, steps[-1]]

    def at(self, x: float) -> float:
        """Return y(x)."""
        i = max(0, bisect_right(self.xs, x) - 1)
        return self.values[i] + self.slopes[i] * (x - self.xs[i])

    def total(self, x: int, stride: int, count: int) -> float:
        """Return the sum of y(x + j * stride) for j in 0..count-1, in closed form for each segment."""
        xs = self.xs
        last = len(xs) - 1
        i = max(0, bisect_right(xs, x) - 1)
        if i == last or x + (count - 1) * stride < xs[i + 1]:  # all in one segment
            slope = self.slopes[i]
            return count * (self.values[i] + slope * (x - xs[i])) + slope * stride * (count * (count - 1) / 2)
        total = 0.0
        while count > 0:
            terms = count if i == last or stride == 0 else min(count, -((x - xs[i + 1]) // stride))
            if terms > 0:
                first = self.values[i] + self.slopes[i] * (x - xs[i])
                total += terms * first + self.slopes[i] * stride * (terms * (terms - 1) / 2)
                count -= terms
                x += terms * stride
            i += 1
        return total

    def reach(self, x: int, stride: int, seconds: float, most: int) -> tuple[int, float]:
        """Return the smallest n >= 1 with total(x, stride, n) >= seconds, or `most` if that comes first, and that sum.

        A sum that misses `seconds` by less than one part in 1e12 counts as reaching it, so that an event
        which falls on a step boundary is seen there however the boundary was summed.
        """
        seconds *= 1 - 1e-12
        xs = self.xs
        last = len(xs) - 1
        i = max(0, bisect_right(xs, x) - 1)
        done = 0
        total = 0.0
        while done < most:
            terms = most - done
            if i < last and stride > 0:
                terms = min(terms, -((x - xs[i + 1]) // stride))
            if terms > 0:
                slope = self.slopes[i]
                first, half = self.values[i] + slope * (x - xs[i]), slope * stride / 2
                whole = total + terms * (first + half * (terms - 1))
                if whole >= seconds:
                    n = _solve(first, half, seconds - total, terms)
                    return done + n, total + n * (first + half * (n - 1))
                total = whole
                done += terms
                x += terms * stride
            i += 1
        return most, total


def _solve(first: float, half: float, seconds: float, most: int) -> int:
    """Return the smallest n in 1..most with n * (first + half * (n - 1)) >= seconds (the last n does reach it)."""
    linear = first - half
    guess = seconds / first if first > 0 else float(most)
    if half > 0:
        guess = (sqrt(linear * linear + 4 * half * seconds) - linear) / (2 * half)
    n = min(most, max(1, ceil(guess)))
    while n > 1 and (n - 1) * (first + half * (n - 2)) >= seconds:
        n -= 1
    while n < most and n * (first + half * (n - 1)) < seconds:
        n += 1
    return n


def totals(curves: Sequence[Curve], which: Ints, x: Ints, stride: Ints, count: Ints) -> Floats:
    """Return `curves[which].total(x, stride, count)` for many sums at once, all arrays (n,)."""
    if len(x) == 0:
        return np.zeros(0)
    xs, values, slopes = (
        np.concatenate([getattr(curve, name) for curve in curves]) for name in ("xs", "values", "slopes")
    )
    ends = np.cumsum([len(curve.xs) for curve in curves])
    first, last = (ends - [len(curve.xs) for curve in curves])[which], (ends - 1)[which]
    # The knots of all curves in one order: of each curve its own, far from those of the others.
    apart = max(int(xs.max()), int(x.max(initial=0))) + 1
    of = np.repeat(np.arange(len(curves)), np.diff(ends, prepend=0))
    i = np.maximum(np.searchsorted(of * apart + xs, which * apart + x, side="right") - 1, first)
    total = np.zeros(len(x))
    left, rows = count.copy(), np.flatnonzero(count > 0)
    x = x.copy()
    while len(rows):
        at, start, step, end = i[rows], x[rows], stride[rows], left[rows]
        inner = (at < last[rows]) & (step > 0)
        reach = -((start - xs[np.minimum(at + 1, len(xs) - 1)]) // np.maximum(step, 1))
        terms = np.where(inner, np.clip(reach, 0, end), end)
        height = values[at] + slopes[at] * (start - xs[at])
        total[rows] += terms * height + slopes[at] * step * (terms * (terms - 1) / 2)
        left[rows], x[rows] = end - terms, start + terms * step
        i[rows] += 1
        rows = rows[end > terms]
    return total
