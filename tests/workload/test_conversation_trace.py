"""The trace that comes with the scenarios is what its generator makes, and like the one that it stands for."""

from __future__ import annotations

from pathlib import Path

import derive_conversation_trace as derive
import pytest

from clustersim.workload import read_trace
from clustersim.workload.prefixes import ideal_hit_frac, recorded

SHIPPED = Path(__file__).parents[2] / "scenarios" / "traces" / "conversations.jsonl"


def test_the_file_is_what_the_generator_makes() -> None:
    assert SHIPPED.read_text() == derive.lines()


def test_its_statistics_are_about_mooncakes() -> None:
    """Mooncake's conversation trace: 12,035 tokens in, 343 out, 37.36 % found before."""
    trace = read_trace(SHIPPED)
    assert len(trace) == derive.NUM_REQUESTS
    assert trace.input_tokens.mean() == pytest.approx(12_035, rel=0.05)
    assert trace.output_tokens.mean() == pytest.approx(343, rel=0.05)
    assert ideal_hit_frac(recorded(trace), trace.input_tokens) == pytest.approx(0.3736, abs=0.02)
    assert len(trace) / trace.arrival_s[-1] == pytest.approx(derive.RATE_PER_S, rel=0.15)
