"""How fast a core is at a moment: seconds of the same work before and after samples, held against the fastest seen.

A virtual machine's core may share its execution units with another guest's. While that one works everything takes up
to half longer, for seconds or minutes, and neither load nor steal time shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from calibrate.backend import DeviceBackend, Timed

#: Name of the reading among a case's notes: seconds of the spacer, before or after its samples, the longer of both.
SPACER_S = "spacer_s"
#: Work that takes longer than the reference by this factor ran on a slowed core; samples of a free one spread by
#: some 5 % (measured on an AMD EPYC), a busy neighbour makes them 1.3 to 1.6 times as long.
MOST = 1.15
#: Share of the readings that are as fast as the reference or faster: its fastest few may be flukes.
_REFERENCE = 0.05
#: Spacers in a reading; one before them is not timed, as it finds the caches as whatever ran before left them.
_SPACERS = 5


def read_s(backend: DeviceBackend, spacer: Timed) -> float:
    """Return the seconds of the spacer now: the median of a few."""
    spacer()
    return float(np.median([backend.time(spacer) for _ in range(_SPACERS)]))


def reference_s(readings: Iterable[float]) -> float | None:
    """Return the seconds of the work on a free core, None without a reading."""
    found = list(readings)
    return float(np.quantile(found, _REFERENCE)) if found else None


def reading_s(notes: Mapping[str, float]) -> float | None:
    """Return the reading among a case's notes, None where it has none."""
    return notes.get(SPACER_S)


def is_slowed(reading: float | None, reference: float | None) -> bool:
    """Return whether a reading speaks against what was timed beside it; without a reading nothing does."""
    return reading is not None and reference is not None and reading > MOST * reference
