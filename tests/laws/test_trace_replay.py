"""A recorded trace is replayed whole: every request of the file is accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest

import clustersim as cs

TRACES = Path(__file__).parents[3] / "shared" / "traces"


@pytest.mark.parametrize(
    ("file", "requests"),
    [
        ("azure_llm_2023_conv.csv", 19_366),
        ("azure_llm_2023_code.csv", 8_819),
        ("mooncake_conversation.jsonl", 12_031),
    ],
)
def test_a_real_trace_is_replayed_whole(file: str, requests: int) -> None:
    path = TRACES / file
    if not path.is_file():
        pytest.skip(f"the trace {file} is not here")
    settings = [f"workload.trace.path={path}", "deployments.0.max_model_len=131072"]
    result = cs.simulate(cs.load("azure_conversation", settings))
    rows = result.requests
    assert len(rows) == result["num_requests"] == requests
    assert set(rows["status"]) == {"finished"}
    assert result["completed"] == requests
    assert result["total_output"] == (rows["thinking_tokens"] + rows["answer_tokens"]).sum()
    assert (rows["finish_s"] >= rows["arrival_s"]).all()
