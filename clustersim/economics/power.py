"""Power and energy of a replica's accelerators and their share of the host."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: How much of the range between idle and limit a fully used memory system and fully used arithmetic draw.
#: Set so that an H100 decodes at 409 W (splitwise-sim configs/power_model/constant.yaml has 380 W) and prefills
#: at 675 W (700 W there); assumed elsewhere.
MEMORY_WEIGHT = 0.55
COMPUTE_WEIGHT = 0.95


def accelerator_w(idle_w: float, limit_w: float, memory_use: Floats, compute_use: Floats) -> Floats:
    """Return the power of an accelerator that uses these shares of its memory bandwidth and of its arithmetic."""
    load = np.minimum(1.0, MEMORY_WEIGHT * memory_use + COMPUTE_WEIGHT * compute_use)
    return idle_w + (limit_w - idle_w) * load


def host_w(idle_w: float, limit_w: float, busy_frac: Floats) -> Floats:
    """Return the power of the rest of a node, taken as linear in how busy its accelerators are."""
    return idle_w + (limit_w - idle_w) * busy_frac
