"""A run as a trace for Perfetto (ui.perfetto.dev) or chrome://tracing.

Format: Trace Event Format, Google, 2016, by which events need not come in order of time: they stand replica by replica
and request by request. Times are simulated microseconds. Requests of a task bear its name, by which viewers group them;
below it stands what each was for the task, by which they are coloured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clustersim.records import CANCELLED, FINISHED, ROLES, Floats, Ints
from clustersim.results.result import Result
from clustersim.results.served import Served

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
#: Events as text, for they are many: what `%` fills in is a number, a time as text, or a name that needs no escape.
_SLICE = (
    '{"ph":"X","name":"%s","cat":"step","pid":%d,"tid":1,"ts":%s,"dur":%s,"args":{"steps":%d,"batch":%d,'
    '"context_tokens":%d,"prefill_tokens":%d,"prefills":%d,"output_tokens":%d}}'
)
_COUNTERS = ",\n".join(
    f'{{"ph":"C","name":"{name}","pid":%d,"tid":0,"ts":%s,"args":{{"{name}":{number}}}}}'
    for name, number in (("batch", "%d"), ("queue", "%d"), ("KV use", "%.6f"))
)
_BEGIN, _END = '{"ph":"b","name":"%s","ts":%s,%s%s}', '{"ph":"e","name":"%s","ts":%s,%s}'
_SAME = '"cat":"request","id":%d,"pid":%d,"tid":2'
_COUNTS = ("input_tokens", "cached_tokens", "thinking_tokens", "answer_tokens", "num_preemptions")
_ARGS = ',"args":{' + ",".join(f'"{name}":%d' for name in _COUNTS) + "}"
_NS = 1e9
Event = dict[str, Any]


def trace(result: Result) -> str:
    """Return trace.json: a process a replica, with its steps, its batch, queue and KV, and its requests."""
    num_runs = sum(len(served.runs["start_s"]) for served in result.served)
    num_requests = sum(len(served.requests["arrival_s"]) for served in result.served)
    most = result.scenario.outputs.max_trace_requests
    slices = _spread(num_runs, MAX_SLICES)
    points = _spread(num_runs, MAX_COUNTER_POINTS)
    shown = _whole_tasks(result, num_requests, most)
    events = [*map(_json, _names(result))]
    first_run = first_request = 0
    for plan, served in zip(result.plans, result.served, strict=True):
        runs, rows = len(served.runs["start_s"]), len(served.requests["arrival_s"])
        num_blocks = plan.memory.num_blocks
        events += _slices(served, _within(slices, first_run, runs))
        events += _counters(served, _within(points, first_run, runs), num_blocks)
        events += _requests(served, _within(shown, first_request, rows), first_request)
        first_run += runs
        first_request += rows
    kept = {
        "runs": f"{len(slices)} of {num_runs}",
        "counter_points": f"{len(points)} of {num_runs}",
        "requests": f"{len(shown)} of {num_requests}",
        "note": "Where not all are drawn, those drawn lie evenly over the run; gaps are then not idle time.",
    }
    other = {"scenario": result.scenario.name, "seed": result.seed, "drawn": kept}
    return _write(events, other)


def _write(events: list[str], other: Event) -> str:
    lines = ",\n".join(events)
    return f'{{"displayTimeUnit":"ms","otherData":{json.dumps(other)},"traceEvents":[\n{lines}\n]}}\n'


def _json(event: Event) -> str:
    return json.dumps(event, allow_nan=False, separators=(",", ":"))


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


def _ns(seconds: Floats) -> Ints:
    """Return whole nanoseconds: no finer, so that neighbours touch and do not overlap."""
    return np.rint(seconds * _NS).astype(np.int64)


def _us(ns: Ints) -> list[str]:
    """Return nanoseconds as the microseconds of a trace; of whole numbers, for floats take ten times as long."""
    return [f"{whole}.{rest:03d}" for whole, rest in _rows(np.divmod(ns, 1000))]


def _process(replica: float) -> int:
    """Return the process of a replica; trace viewers keep 0 for themselves."""
    return int(replica) + 1


def _names(result: Result) -> Iterator[Event]:
    first = 0
    for plan in result.plans:
        for index in range(plan.max_replicas):
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
        first += plan.max_replicas


def _rows(columns: Sequence[NDArray[Any]]) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.tolist() for column in columns), strict=True)


def _whole(column: NDArray[Any]) -> list[int]:
    """Return whole numbers as such: as text, floats take several times as long."""
    whole: list[int] = column.astype(np.int64).tolist()
    return whole


def _slices(served: Served, picked: Ints) -> Iterator[str]:
    runs = {name: column[picked] for name, column in served.runs.items()}
    start, end = _ns(runs["start_s"]), _ns(runs["end_s"])
    kind = np.where(runs["prefill_tokens"] == 0, "decode", np.where(runs["batch"] > 0, "mixed", "prefill"))
    counts = (
        runs["num_steps"], runs["batch"], runs["context_tokens"], runs["prefill_tokens"], runs["num_prefills"],
        runs["num_steps"] * runs["batch"] + runs["num_first_tokens"],
    )  # fmt: skip
    at = (kind.tolist(), _whole(runs["replica"] + 1), _us(start), _us(end - start))
    return (_SLICE % row for row in zip(*at, *map(_whole, counts), strict=True))


def _counters(served: Served, picked: Ints, num_blocks: int) -> Iterator[str]:
    """Return the three counters at each point of time, as one text."""
    runs = {name: column[picked] for name, column in served.runs.items()}
    at = (_whole(runs["replica"] + 1), _us(_ns(runs["start_s"])))
    batch, queue = _whole(runs["batch"] + runs["num_prefills"]), _whole(runs["num_waiting"])
    columns = (*at, batch, *at, queue, *at, (runs["kv_blocks"] / num_blocks).tolist())
    return (_COUNTERS % row for row in zip(*columns, strict=True))


def _requests(served: Served, picked: Ints, first: int) -> Iterator[str]:
    """Yield the phases of each request as nested asynchronous slices, as one text, as far as it came."""
    _, _, entered = _phases({name: column[picked] for name, column in served.requests.items()})[0]
    came = picked[entered >= 0]
    rows = {name: column[came] for name, column in served.requests.items()}
    phases = _phases(rows)
    drawn = np.stack([until > since for _, since, until in phases], axis=1)
    ends = [until for _, _, until in phases]
    known: dict[bytes, list[str]] = {}  # a phase mostly begins where another ends
    moments = (np.max(ends, axis=0), *(since for _, since, _ in phases), *ends)
    times = [known.get(each.tobytes()) or known.setdefault(each.tobytes(), _us(each)) for each in moments]
    who = map(_SAME.__mod__, zip(_whole(first + came), _whole(rows["replica"] + 1), strict=True))
    args = map(_ARGS.__mod__, zip(*(_whole(rows[name]) for name in _COUNTS), strict=True))
    names = _around(rows, first + came)
    for (name, *inner), lasts, *fields in zip(names, drawn.tolist(), who, args, *times, strict=True):
        text, pick = _form(tuple(inner), tuple(lasts))
        yield text % pick((name, *fields))


@cache
def _form(inner: tuple[str, ...], drawn: tuple[bool, ...]) -> tuple[str, Callable[[Sequence[str]], Any]]:
    """Return the text of a request that draws some phases, and what picks the fields that its `%s` stand for.

    Fields: the name of the outermost slice, `_SAME`, `_ARGS`, the end, when each phase begins, and when each ends.
    """
    name, same, args, end, begins, ends = 0, 1, 2, 3, 4, 4 + len(_PHASES)
    colours = [f',"cname":"{_COLOURS[each]}"' if each in _COLOURS else "" for each in inner]
    lines: list[tuple[str, tuple[int, ...]]] = [
        (_BEGIN % ("%s", "%s", "%s", "%s"), (name, begins, same, args))
    ]
    lines += [
        (_BEGIN % (each, "%s", "%s", more), (begins, same)) for each, more in zip(inner, colours, strict=True)
    ]
    for number, (phase, *_) in enumerate(_PHASES):
        if drawn[number]:
            lines.append((_BEGIN % (phase, "%s", "%s", ""), (begins + number, same)))
            lines.append((_END % (phase, "%s", "%s"), (ends + number, same)))
    lines += [(_END % (each, "%s", "%s"), (end, same)) for each in reversed(inner)]
    lines.append((_END % ("%s", "%s", "%s"), (name, end, same)))
    return ",\n".join(text for text, _ in lines), itemgetter(*(field for _, each in lines for field in each))


def _around(rows: Mapping[str, Floats], numbers: Ints) -> Iterator[tuple[str, ...]]:
    """Yield the names of the slices around the phases of each request, the outermost first."""
    for number, task, role, status in _rows((numbers, rows["task"], rows["role"], rows["status"])):
        if task < 0:
            yield (f"request {number}",)
        else:
            yield f"task {int(task)}", "cancelled" if status == CANCELLED else ROLES[int(role)]


def _phases(rows: Mapping[str, Floats]) -> list[tuple[str, Ints, Ints]]:
    """Return each phase with its start and end (requests,) in nanoseconds, an end of -1 where it was not entered.

    One that ends unfinished ends in the phase it was in.
    """
    ended = np.where(rows["status"] == FINISHED, np.nan, rows["finish_s"])
    found = []
    for name, start, end in _PHASES:
        since = rows[start]
        until = np.where(np.isnan(since), np.nan, np.where(np.isnan(rows[end]), ended, rows[end]))
        found.append(
            (name, _ns(np.nan_to_num(since)), np.where(np.isnan(until), -1, _ns(np.nan_to_num(until))))
        )
    return found
