"""A deployment that is told to prefill for itself is not said to prefill for others."""

from __future__ import annotations

import pytest
import toy

from clustersim.errors import InputError
from clustersim.scenario.plan import plan


def test_one_that_would_prefill_for_itself_may_be_a_target() -> None:
    with pytest.raises(InputError, match="prefill_by") as caught:
        plan(toy.scenario(deployment={"prefill_by": "serve"}, workload={"to": "serve"}))
    assert "only prefills for others" not in str(caught.value)
