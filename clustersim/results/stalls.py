"""Gaps between tokens of sequences that stood still while others were prefilled."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from clustersim.records import Floats


def stalled_gaps(runs: Mapping[str, Floats], window_s: tuple[float, float]) -> tuple[Floats, Floats]:
    """Return (seconds (n,), tokens (n,)) of the gaps across steps in which decoding sequences stood still.

    Runs are columns as in RunRecords. A gap goes from the start of the first such step that a sequence stood still in
    to the end of its next decode step; a step has as many first-time ones as it has more than the step before. Those
    that were preempted meanwhile are counted as if they had gone on. Gaps that end in the window count.
    """
    stalled = runs.get("num_stalled", np.zeros(0))
    if not stalled.any():
        return np.zeros(0), np.zeros(0)
    order = np.lexsort((runs["start_s"], runs["replica"]))
    replica, start, end, batch = (runs[name][order] for name in ("replica", "start_s", "end_s", "batch"))
    steps, still = np.maximum(runs["num_steps"][order], 1), stalled[order]
    rows = np.arange(len(order))
    decodes = np.where(batch > 0, rows, len(rows))
    then = np.minimum.accumulate(decodes[::-1])[::-1]  # the run in which each next decodes
    before = np.append(0.0, np.where((batch[:-1] == 0) & (replica[:-1] == replica[1:]), still[:-1], 0.0))
    new = np.where(still > 0, np.maximum(still - before, 0.0), 0.0)
    chosen = (new > 0) & (then < len(rows))
    chosen[chosen] = replica[then[chosen]] == replica[chosen]
    then = then[chosen]
    until = start[then] + (end[then] - start[then]) / steps[then]
    inside = (until > window_s[0]) & (until <= window_s[1])
    return (until - start[chosen])[inside], new[chosen][inside]
