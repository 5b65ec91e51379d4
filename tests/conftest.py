"""What every test shares: deterministic property tests, and the switch that stores golden results anew."""

from __future__ import annotations

import os
import tempfile

import pytest
from hypothesis import HealthCheck, settings

# Tests run side by side: a linear algebra library that also takes every core would slow them all.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# A developer's own measured profiles must not change what the tests expect.
_NO_PROFILES = tempfile.TemporaryDirectory(prefix="clustersim-no-profiles-")
os.environ["CLUSTERSIM_PROFILES"] = _NO_PROFILES.name

settings.register_profile(
    "laws", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("laws")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --update-golden."""
    parser.addoption("--update-golden", action="store_true", help="store the golden results anew")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden results are to be stored anew."""
    return bool(request.config.getoption("--update-golden"))
