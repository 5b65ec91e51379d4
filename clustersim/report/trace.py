"""A run as a trace for Perfetto (ui.perfetto.dev) or chrome://tracing.

Format: Trace Event Format, Google, 2016. Times are simulated microseconds. Requests of a task bear its name, by which
viewers group them; below it stands what each was for the task, by which they are coloured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
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
#: Events as text, for they are many: what `%` fills in is a number, or a name that needs no escape.
_SLICE = (
    '{"ph":"X","name":"%s","cat":"step","pid":%d,"tid":1,"ts":%d.%03d,"dur":%d.%03d,"args":{"steps":%d,"batch":%d,'
    '"context_tokens":%d,"prefill_tokens":%d,"prefills":%d,"output_tokens":%d}}'
)
_COUNTERS = ",\n".join(
    f'{{"ph":"C","name":"{name}","pid":%d,"tid":0,"ts":%d.%03d,"args":{{"{name}":{number}}}}}'
    for name, number in (("batch", "%d"), ("queue", "%d"), ("KV use", "%.6f"))
)
_BEGIN, _END = '{"ph":"b","name":"%s","ts":%s,%s%s}', '{"ph":"e","name":"%s","ts":%s,%s}'
_SAME = '"cat":"request","id":%d,"pid":%d,"tid":2'
_COUNTS = ("input_tokens", "cached_tokens", "thinking_tokens", "answer_tokens", "num_preemptions")
_ARGS = ',"args":{' + ",".join(f'"{name}":%d' for name in _COUNTS) + "}"
_NS = 1e9
Event = dict[str, Any]
#: When each of some texts stands in the trace, in nanoseconds, and the texts: an event each, or several of one time.
Lines = tuple[Ints, list[str]]


def trace(result: Result) -> str:
    """Return trace.json: a process a replica, with its steps, its batch, queue and KV, and its requests."""
    num_runs = sum(len(served.runs["start_s"]) for served in result.served)
    num_requests = sum(len(served.requests["arrival_s"]) for served in result.served)
    most = result.scenario.outputs.max_trace_requests
    slices = _spread(num_runs, MAX_SLICES)
    points = _spread(num_runs, MAX_COUNTER_POINTS)
    shown = _whole_tasks(result, num_requests, most)
    lines: list[Lines] = []
    first_run = first_request = 0
    for plan, served in zip(result.plans, result.served, strict=True):
        runs, rows = len(served.runs["start_s"]), len(served.requests["arrival_s"])
        num_blocks = plan.memory.num_blocks
        lines.append(_slices(served, _within(slices, first_run, runs)))
        lines.append(_counters(served, _within(points, first_run, runs), num_blocks))
        lines += _requests(served, _within(shown, first_request, rows), first_request)
        first_run += runs
        first_request += rows
    kept = {
        "runs": f"{len(slices)} of {num_runs}",
        "counter_points": f"{len(points)} of {num_runs}",
        "requests": f"{len(shown)} of {num_requests}",
        "note": "Where not all are drawn, those drawn lie evenly over the run; gaps are then not idle time.",
    }
    other = {"scenario": result.scenario.name, "seed": result.seed, "drawn": kept}
    return _write([*map(_json, _names(result)), *_in_order(lines)], other)


def _write(events: list[str], other: Event) -> str:
    lines = ",\n".join(events)
    return f'{{"displayTimeUnit":"ms","otherData":{json.dumps(other)},"traceEvents":[\n{lines}\n]}}\n'


def _json(event: Event) -> str:
    return json.dumps(event, allow_nan=False, separators=(",", ":"))


def _in_order(lines: list[Lines]) -> list[str]:
    """Return the events by time; those of the same time in the order in which they were given."""
    texts = [text for _, each in lines for text in each]
    order = np.argsort(np.concatenate([times for times, _ in lines]), kind="stable")
    return [texts[index] for index in order.tolist()]


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


def _slices(served: Served, picked: Ints) -> Lines:
    runs = {name: column[picked] for name, column in served.runs.items()}
    start, end = _ns(runs["start_s"]), _ns(runs["end_s"])
    kind = np.where(runs["prefill_tokens"] == 0, "decode", np.where(runs["batch"] > 0, "mixed", "prefill"))
    columns = (
        kind, runs["replica"] + 1, *np.divmod(start, 1000), *np.divmod(end - start, 1000), runs["num_steps"],
        runs["batch"], runs["context_tokens"], runs["prefill_tokens"], runs["num_prefills"],
        runs["num_steps"] * runs["batch"] + runs["num_first_tokens"],
    )  # fmt: skip
    return start, [_SLICE % row for row in _rows(columns)]


def _counters(served: Served, picked: Ints, num_blocks: int) -> Lines:
    """Return the three counters at each point of time, as one text."""
    runs = {name: column[picked] for name, column in served.runs.items()}
    start = _ns(runs["start_s"])
    at = (runs["replica"] + 1, *np.divmod(start, 1000))
    values = (runs["batch"] + runs["num_prefills"], runs["num_waiting"], runs["kv_blocks"] / num_blocks)
    columns = [column for value in values for column in (*at, value)]
    return start, [_COUNTERS % row for row in _rows(columns)]


def _requests(served: Served, picked: Ints, first: int) -> Iterator[Lines]:
    """Yield the phases of requests as nested asynchronous slices, as far as each request came.

    What one request has of each comes in the order in which its slices nest.
    """
    _, _, entered = _phases({name: column[picked] for name, column in served.requests.items()})[0]
    came = picked[entered >= 0]
    rows = {name: column[came] for name, column in served.requests.items()}
    phases = _phases(rows)
    begin, end = phases[0][1], np.max([until for _, _, until in phases], axis=0)
    same = [_SAME % row for row in _rows((first + came, rows["replica"] + 1))]
    args = [_ARGS % row for row in _rows([rows[name] for name in _COUNTS])]
    around = list(_around(rows, first + came))
    yield begin, [_begin(*each) for each in zip(around, _us(begin), same, args, strict=True)]
    for name, since, until in phases:
        drawn = np.flatnonzero(until > since)
        mine = [same[index] for index in drawn.tolist()]
        for sign, at in (("b", since[drawn]), ("e", until[drawn])):
            head = f'{{"ph":"{sign}","name":"{name}","ts":'
            yield at, [f"{head}{time},{text}}}" for time, text in zip(_us(at), mine, strict=True)]
    yield end, [_ends(*each) for each in zip(around, _us(end), same, strict=True)]


def _begin(names: Sequence[str], time: str, same: str, args: str) -> str:
    """Return the beginnings of the slices around the phases of a request, of which the first bears `args`."""
    colours = [f',"cname":"{_COLOURS[name]}"' if name in _COLOURS else "" for name in names]
    more = [(args if number == 0 else "") + colour for number, colour in enumerate(colours)]
    return ",\n".join(_BEGIN % (name, time, same, each) for name, each in zip(names, more, strict=True))


def _ends(names: Sequence[str], time: str, same: str) -> str:
    return ",\n".join(_END % (name, time, same) for name in reversed(names))


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
