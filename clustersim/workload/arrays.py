"""The two array types of the workload package."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: No request has more tokens: above this a length is a mistake.
MAX_TOKENS = 10**9
