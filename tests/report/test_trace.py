"""The trace: well formed, in order, bounded, and true to the run."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from clustersim.report import trace as module
from clustersim.report.trace import trace
from clustersim.results.result import Result


def events_of(result: Result) -> list[dict[str, object]]:
    events: list[dict[str, object]] = json.loads(trace(result))["traceEvents"]
    return events


@pytest.mark.parametrize("name", ["stable", "overloaded", "rejecting", "rich_one", "tasked"])
def test_tracks_are_in_order_and_slices_do_not_overlap(name, request):
    tracks = defaultdict(list)
    for event in events_of(request.getfixturevalue(name)):
        assert {"ph", "name", "pid", "tid"} <= set(event)
        if event["ph"] != "M":
            tracks[event["ph"], event["pid"], event["tid"], event.get("id")].append(event)
    for (phase, *_), events in tracks.items():
        times = [event["ts"] for event in events]
        assert times == sorted(times)
        if phase == "X":
            for one, two in pairwise(events):
                assert one["dur"] >= 0
                assert one["ts"] + one["dur"] <= two["ts"] + 1e-3


@pytest.mark.parametrize("name", ["stable", "overloaded", "rich_one", "tasked", "tasks_overloaded"])
def test_requests_begin_and_end_in_pairs(name, request):
    stacks = defaultdict(list)
    for event in events_of(request.getfixturevalue(name)):
        stack = stacks[event["pid"], event.get("id")]
        if event["ph"] == "b":
            stack.append(event["name"])
        elif event["ph"] == "e":
            assert stack.pop() == event["name"]
    assert stacks
    assert not any(stacks.values())


def test_every_replica_is_a_process(rich_one):
    names = {event["args"]["name"] for event in events_of(rich_one) if event["name"] == "process_name"}
    assert names == {"one / replica 0", "one / replica 1", "two / replica 0"}


def test_a_request_is_drawn_when_it_happened(stable):
    row = stable.requests.iloc[0]
    mine = [event for event in events_of(stable) if event["ph"] in "be" and event["id"] == 0]
    assert mine[0]["ts"] == pytest.approx(row["arrival_s"] * 1e6, abs=1e-3)
    assert mine[-1]["ts"] == pytest.approx(row["finish_s"] * 1e6, abs=1e-3)
    thinking = [event["ts"] for event in mine if event["name"] == "thinking"]
    assert thinking == pytest.approx([row["first_token_s"] * 1e6, row["first_answer_s"] * 1e6], abs=1e-3)


def test_it_is_bounded_and_says_so(stable, monkeypatch):
    monkeypatch.setattr(module, "MAX_SLICES", 50)
    monkeypatch.setattr(module, "MAX_COUNTER_POINTS", 20)
    outputs = stable.scenario.outputs.model_copy(update={"max_trace_requests": 10})
    few = Result(**{**vars(stable), "scenario": stable.scenario.model_copy(update={"outputs": outputs})})
    text = json.loads(trace(few))
    events = text["traceEvents"]
    kinds = Counter(event["ph"] for event in events)
    assert kinds["X"] == 50
    assert kinds["C"] == 60
    assert len({event["id"] for event in events if event["ph"] == "b"}) == 10
    assert text["otherData"]["drawn"]["requests"] == f"10 of {len(stable.requests)}"
    starts = [event["ts"] for event in events if event["ph"] == "X"]
    assert min(starts) < 2e6
    assert max(starts) > 55e6


def test_requests_of_a_task_bear_its_name_and_role(tasked):
    rows = tasked.requests
    events = events_of(tasked)
    names = Counter(event["name"] for event in events if event["ph"] == "b")
    assert names["cancelled"] == (rows["status"] == "cancelled").sum() > 0
    assert names["useful"] == (rows["role"] == "useful").sum()
    assert names["check"] == ((rows["role"] == "check") & (rows["status"] == "finished")).sum()
    task = rows["task"].iloc[-1]
    assert names[f"task {task}"] == (rows["task"] == task).sum()


def test_tasks_are_drawn_whole(tasked):
    outputs = tasked.scenario.outputs.model_copy(update={"max_trace_requests": 200})
    few = Result(**{**vars(tasked), "scenario": tasked.scenario.model_copy(update={"outputs": outputs})})
    names = Counter(event["name"] for event in events_of(few) if event["ph"] == "b")
    size = tasked.requests["task"].value_counts()
    drawn = {int(name.split()[1]): num for name, num in names.items() if name.startswith("task ")}
    assert len(drawn) > 10
    assert all(num == size[task] for task, num in drawn.items())
    assert sum(drawn.values()) + sum(num for name, num in names.items() if name.startswith("request")) <= 200
