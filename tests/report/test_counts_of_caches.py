"""Shares of cached input say what they are of: all calls of some tasks, or the requests of a window."""

from __future__ import annotations

from conftest import TASK_DEPLOYMENTS, Words, of_tasks, run

from clustersim.report import fleet, tasks
from clustersim.report.html import html


def test_tasks_and_deployments_say_what_they_count():
    strategy = {"kind": "agent", "mean_turns": 4, "tool_latency": "5 s"}
    result = run(deployments=TASK_DEPLOYMENTS[:1], workloads=[of_tasks("2 req/s", {"strategy": strategy})])
    (view,) = tasks.views(result)
    share = view.metrics["cached_frac"]
    assert share != result["prefix_hit_frac"] > 0
    assert tasks.facts(view)[-1] == f"{tasks.share(share)} of prompts cached, over all calls of these tasks"
    assert "found in KV cache" in fleet.facts(result.metrics)
    assert "(of requests that came in the window: gpu " in fleet.facts(result.metrics)
    page = Words(html(result)).text
    assert "were in the KV cache, over all calls of these tasks, those after the window too" in page
    assert "Of requests that came in the window, " in page
