"""A draft model that is no smaller than the model it drafts for is refused."""

from __future__ import annotations

from typing import Any

import pytest
import toy

from clustersim.errors import InputError
from clustersim.scenario.plan import plan


def drafted(draft: dict[str, Any], model: str = "llama-3.1-8b") -> object:
    speculation = {"kind": "draft_model", "num_draft_tokens": 3, "acceptance": 0.7, **draft}
    return plan(
        toy.scenario(deployment={"model": model, "parallelism": {"tp": 4}, "speculation": speculation})
    )


@pytest.mark.parametrize(
    "draft",
    [{"model": "llama-3.1-8b"}, {"model": "llama-3.1-70b"}, {"model": "llama-3.1-70b", "precision": "nvfp4"}],
)
def test_a_draft_as_large_as_the_model_is_refused(draft: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"deployments\.0\.speculation: .* B parameters.* smaller model"):
        drafted(draft)


@pytest.mark.parametrize(
    ("draft", "model"),
    [
        ({"model": "llama-3.1-8b"}, "llama-3.1-70b"),
        ({"model": "llama-3.1-8b", "precision": "fp8"}, "llama-3.1-8b"),
    ],
)
def test_a_smaller_draft_or_the_same_in_fewer_bits_is_fine(draft: dict[str, Any], model: str) -> None:
    assert drafted(draft, model)
