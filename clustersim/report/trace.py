"""A run as a trace for Perfetto (ui.perfetto.dev) or chrome://tracing.

Format: Trace Event Format, Google, 2016. Times are simulated microseconds. Requests of a task bear its name, by which
viewers group them; below it stands what each was for the task, by which they are coloured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from clustersim.records import CANCELLED, ROLES, Floats, Ints
from clustersim.results.result import Result
from clustersim.results.served import Served
from clustersim.units import MICRO

MAX_SLICES = 20_000
MAX_COUNTER_POINTS = 5_000
_STEPS = 1
_REQUESTS = 2
#: A request's phases and the times between which each lies.
_PHASES = (
    ("frontend", "arrival_s", "entered_s"),
    ("queued", "entered_s", "scheduled_s"),
    ("prefill", "scheduled_s", "first_token_s"),
    ("thinking", "first_token_s", "first_answer_s"),
    ("answer", "first_answer_s", "finish_s"),
)
#: Colours of roles where a viewer knows Chrome's names; Perfetto colours by the role itself.
_COLOURS = {"useful": "good", "candidate": "grey", "check": "yellow", "cancelled": "terrible"}
Event = dict[str, Any]


def trace(result: Result) -> str:
    """Return trace.json: a process a replica, with its steps, its batch, queue and KV, and its requests."""
    num_runs = sum(len(served.runs["start_s"]) for served in result.served)
    num_requests = sum(len(served.requests["arrival_s"]) for served in result.served)
    most = result.scenario.outputs.max_trace_requests
    slices = _spread(num_runs, MAX_SLICES)
    points = _spread(num_runs, MAX_COUNTER_POINTS)
    shown = _whole_tasks(result, num_requests, most)
    events: list[Event] = []
    first_run = first_request = 0
    for plan, served in zip(result.plans, result.served, strict=True):
        runs, rows = len(served.runs["start_s"]), len(served.requests["arrival_s"])
        num_blocks = plan.memory.num_blocks
        events += _slices(served, _within(slices, first_run, runs))
        events += _counters(served, _within(points, first_run, runs), num_blocks)
        events += _requests(served, _within(shown, first_request, rows), first_request)
        first_run += runs
        first_request += rows
    events.sort(key=lambda event: event["ts"])
    kept = {
        "runs": f"{len(slices)} of {num_runs}",
        "counter_points": f"{len(points)} of {num_runs}",
        "requests": f"{len(shown)} of {num_requests}",
        "note": "Where not all are drawn, those drawn lie evenly over the run; gaps are then not idle time.",
    }
    other = {"scenario": result.scenario.name, "seed": result.seed, "drawn": kept}
    return _write([*_names(result), *events], other)


def _write(events: list[Event], other: Event) -> str:
    lines = ",\n".join(json.dumps(event, allow_nan=False, separators=(",", ":")) for event in events)
    return f'{{"displayTimeUnit":"ms","otherData":{json.dumps(other)},"traceEvents":[\n{lines}\n]}}\n'


def _spread(total: int, most: int) -> Ints:
    """Return at most `most` indices of `total`, evenly spaced."""
    if total <= most:
        return np.arange(total)
    return np.unique(np.linspace(0, total - 1, most).astype(np.int64)) if most else np.arange(0)


def _whole_tasks(result: Result, num_requests: int, most: int) -> Ints:
    """Return at most `most` requests, evenly over the run, and of tasks all requests where they are that few."""
    task = np.concatenate([served.requests["task"] for served in result.served])
    if (task < 0).all() or num_requests <= most:
        return _spread(num_requests, most)
    alone = np.arange(len(task)) + task.max() + 1  # a plain request is a group of its own
    groups, size = np.unique(np.where(task < 0, alone, task), return_counts=True)
    picked = _spread(len(groups), len(groups) * most // num_requests)
    picked = picked[np.cumsum(size[picked]) <= most]
    return np.flatnonzero(np.isin(np.where(task < 0, alone, task), groups[picked]))


def _within(indices: Ints, first: int, length: int) -> Ints:
    inside: Ints = indices[(indices >= first) & (indices < first + length)] - first
    return inside


def _us(seconds: float) -> float:
    """Return microseconds, to the nanosecond, so that neighbours touch and do not overlap."""
    return round(float(seconds) / MICRO, 3)


def _process(replica: float) -> int:
    """Return the process of a replica; trace viewers keep 0 for themselves."""
    return int(replica) + 1


def _names(result: Result) -> Iterator[Event]:
    first = 0
    for plan in result.plans:
        for index in range(plan.deployment.replicas):
            pid = _process(first + index)
            name = f"{plan.deployment.name} / replica {index}"
            yield {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}
            yield {"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": {"sort_index": pid}}
            yield {
                "ph": "M",
                "name": "thread_name",
                "pid": pid,
                "tid": _STEPS,
                "args": {"name": "engine steps"},
            }
            yield {
                "ph": "M",
                "name": "thread_name",
                "pid": pid,
                "tid": _REQUESTS,
                "args": {"name": "requests"},
            }
        first += plan.deployment.replicas


def _slices(served: Served, picked: Ints) -> Iterator[Event]:
    columns = {name: column[picked].tolist() for name, column in served.runs.items()}
    for row in zip(*columns.values(), strict=True):
        run = dict(zip(columns, row, strict=True))
        start, end = _us(run["start_s"]), _us(run["end_s"])
        kind = "decode" if not run["prefill_tokens"] else "mixed" if run["batch"] else "prefill"
        args = {
            "steps": int(run["num_steps"]), "batch": int(run["batch"]), "context_tokens": int(run["context_tokens"]),
            "prefill_tokens": int(run["prefill_tokens"]), "prefills": int(run["num_prefills"]),
            "output_tokens": int(run["num_steps"] * run["batch"] + run["num_first_tokens"]),
        }  # fmt: skip
        yield {
            "ph": "X", "name": kind, "cat": "step", "pid": _process(run["replica"]), "tid": _STEPS,
            "ts": start, "dur": round(end - start, 3), "args": args,
        }  # fmt: skip


def _counters(served: Served, picked: Ints, num_blocks: int) -> Iterator[Event]:
    runs = served.runs
    names: tuple[tuple[str, Floats], ...] = (
        ("batch", runs["batch"] + runs["num_prefills"]),
        ("queue", runs["num_waiting"]),
        ("KV use", runs["kv_blocks"] / num_blocks),
    )
    for name, values in names:
        for replica, start, value in zip(
            runs["replica"][picked].tolist(),
            runs["start_s"][picked].tolist(),
            values[picked].tolist(),
            strict=True,
        ):
            yield {
                "ph": "C", "name": name, "pid": _process(replica), "tid": 0, "ts": _us(start), "args": {name: value}
            }  # fmt: skip


def _requests(served: Served, picked: Ints, first: int) -> Iterator[Event]:
    """Yield the phases of requests as nested asynchronous slices, as far as each request came."""
    columns = {name: column[picked].tolist() for name, column in served.requests.items()}
    for index, row in zip(picked.tolist(), zip(*columns.values(), strict=True), strict=True):
        request = dict(zip(columns, row, strict=True))
        spans = list(_spans(request))
        if not spans:
            continue
        same = {"cat": "request", "id": first + index, "pid": _process(request["replica"]), "tid": _REQUESTS}
        args = {
            name: int(request[name])
            for name in (
                "input_tokens",
                "cached_tokens",
                "thinking_tokens",
                "answer_tokens",
                "num_preemptions",
            )
        }
        start, end = spans[0][1], spans[-1][2]
        for number, around in enumerate(_around(request, first + index)):
            colour = {"cname": _COLOURS[around]} if around in _COLOURS else {}
            begun = {"args": args} if number == 0 else {}
            yield {"ph": "b", "name": around, "ts": start, **same, **begun, **colour}
        for name, began, ended in spans:
            if ended > began:
                yield {"ph": "b", "name": name, "ts": began, **same}
                yield {"ph": "e", "name": name, "ts": ended, **same}
        for around in reversed(_around(request, first + index)):
            yield {"ph": "e", "name": around, "ts": end, **same}


def _around(request: dict[str, float], number: int) -> list[str]:
    """Return the names of the slices around a request's phases, the outermost first."""
    if request["task"] < 0:
        return [f"request {number}"]
    role = "cancelled" if request["status"] == CANCELLED else ROLES[int(request["role"])]
    return [f"task {int(request['task'])}", role]


def _spans(request: dict[str, float]) -> Iterator[tuple[str, float, float]]:
    """Yield phases with their start and end in microseconds; one that is cancelled ends in the phase it was in."""
    for name, start, end in _PHASES:
        if request[start] != request[start]:  # nan: it did not come so far
            return
        if request[end] == request[end]:
            yield name, _us(request[start]), _us(request[end])
        elif request["status"] == CANCELLED:
            yield name, _us(request[start]), _us(request["finish_s"])
