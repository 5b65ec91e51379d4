"""The summary of a run in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from clustersim.report import fleet, notes, pools, task_sources, tasks, words
from clustersim.report.tasks import TaskView
from clustersim.results.result import Result
from clustersim.scenario.plan import DeploymentPlan
from clustersim.units import duration

WIDTH = 100
_COLOURS = {"STABLE": "green", "NEAR_SATURATION": "yellow", "OVERLOADED": "bold red"}
_GAP = "   "


def print_summary(result: Result, console: Console, paths: Iterable[Path] = ()) -> None:
    """Print the summary of a run and the files it wrote."""
    console.print(summary(result, paths), width=min(WIDTH, console.width), highlight=False)


def summary(result: Result, paths: Iterable[Path] = ()) -> RenderableType:
    """Return the summary of a run: what was run, how tasks and deployments did, what it rests on, what to beware of."""
    parts: list[RenderableType] = [_Header(result)]
    for view in tasks.views(result):
        parts.append(_Tasks(view))
        known = " ".join(task_sources.sentences(view))
        parts += [Padding(_hang("Accuracy:", words.clean(known)), (0, 0, 0, 2))] if known else []
    for plan in result.plans:
        metrics = result.metrics["deployments"][plan.deployment.name]
        parts.append(_Deployment(result, plan, metrics))
        of_fleet = fleet.facts(metrics, fleet.of(result, plan))
        parts += [Padding(_hang("Fleet:", words.clean(of_fleet)), (0, 0, 0, 2))] if of_fleet else []
        what = "prompt" if pools.prefills(result, plan) else "token"
        parts += [Padding(line, (0, 0, 0, 2)) for line in _rests(plan, metrics, what)]
        group = pools.together(result, plan)
        parts += [Padding(_hang("Together:", words.clean(group)), (0, 0, 0, 2))] if group else []
    parts += [
        Padding(_hang("Published:", words.clean(line)), (0, 0, 0, 2)) for line in words.published(result)
    ]
    parts += [
        Padding(_hang("Note:", line), (0, 0, 0, 2)) for line in map(words.clean, notes.warnings(result))
    ]
    parts += _files(list(paths))
    return Group(*parts)


class _Header:
    """What was run: its name and size at the left, the effort at the right."""

    def __init__(self, result: Result) -> None:
        self.result = result

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        scenario, frame = self.result.scenario, self.result.requests
        horizon = "" if scenario.horizon_s is None else f", {words.span(scenario.horizon_s)}"
        title = f"{words.clean(scenario.name)}{horizon}, on {words.clean(words.fleet(scenario))}"
        done = frame[frame["status"].isin(["finished", "cancelled"])]
        tokens = int(done[["input_tokens", "thinking_tokens", "answer_tokens"]].to_numpy().sum())
        size = [f"{len(self.result.tasks):,} tasks"] if len(self.result.tasks) else []
        size += [
            f"{len(frame):,} requests", f"{words.count(tokens)} tokens", f"{duration(self.result.metrics['cpu_s'])} CPU"
        ]  # fmt: skip
        right = Text(_GAP.join(size), style="dim")
        left = Text(_safe(title, options), style="bold")
        if len(left) + len(right) + 6 <= options.max_width:
            gap = options.max_width - len(left) - len(right) - 4
            yield Text.assemble("  ", left, " " * gap, right)
        else:
            yield Padding(left, (0, 0, 0, 2))
            yield Padding(right, (0, 0, 0, 2))


class _Deployment:
    """One deployment's panel: its name and regime in the upper edge."""

    def __init__(self, result: Result, plan: DeploymentPlan, metrics: Mapping[str, Any]) -> None:
        self.result, self.plan, self.metrics = result, plan, metrics

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        regime = self.metrics["regime"]
        state = Text(f" {regime} (util {self.metrics['utilisation']:.2f})", style=_COLOURS[regime])
        names = pools.latencies(self.result, self.plan)
        table = _latencies(names, lambda name, stat: words.latency(self.metrics, name, stat))
        facts = [words.clean(words.goodput(self.result, self.plan, self.metrics))]
        used = [*pools.facts(self.result, self.plan), *_in_use(self.metrics)]
        yield _panel(options, self.plan.deployment.name, state, table, facts, used)


class _Tasks:
    """The panel of a workload's tasks: its name, and the share answered rightly, in the upper edge."""

    def __init__(self, view: TaskView) -> None:
        self.view = view

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        view = self.view
        known = view.metrics["accuracy"] is not None
        regime = view.regime
        state = Text(f" {tasks.right(view)} right" if known else " accuracy not known", style="bold")
        if regime != "STABLE":
            state.append(f" {regime}", style=_COLOURS[regime])
        told = [
            words.clean(tasks.strategy(view.tasks.strategy)),
            words.clean(f"goodput {tasks.goodput(view)}"),
        ]
        table = _latencies(tasks.LATENCIES, view.latency)
        yield _panel(options, f"tasks of {view.workload.name}", state, table, told, tasks.facts(view))


def _panel(
    options: ConsoleOptions, name: str, state: Text, table: Table, lines: Sequence[str], facts: Sequence[str]
) -> RenderableType:
    """Return a box with a name and a state in its upper edge."""
    width = options.max_width - 2
    title = Text(f"{_safe(words.clean(name), options)} ", style="bold")
    title.truncate(max(8, width - 8 - len(state)), overflow="ellipsis")
    line = "-" if options.ascii_only else "─"
    room = width - 6 - len(title) - len(state)
    edge = Text.assemble(title, (line * max(1, room), "dim"), state)
    inside = Group(table, *map(Text, lines), *_flow(facts, width - 4))
    return Padding(
        Panel(
            inside, title=edge, title_align="left", border_style="dim", box=box.SQUARE, width=width, padding=(0, 1)
        ),
        (0, 0, 0, 2),
    )  # fmt: skip


def _latencies(names: Iterable[str], say: Callable[[str, str], str]) -> Table:
    names = list(names)
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=True, header_style="dim", pad_edge=False)
    table.add_column("")
    for name in names:
        table.add_column(name.upper(), justify="right", no_wrap=True, min_width=9)
    for stat in ("p50", "p99"):
        texts = [say(name, stat) for name in names]
        cells = [Text(text, style="red" if text == words.UNBOUNDED else "") for text in texts]
        table.add_row(Text(stat, style="dim"), *cells)
    return table


def _in_use(metrics: Mapping[str, Any]) -> list[str]:
    return [
        f"KV {metrics['mean_kv_frac']:.2f}",
        f"MFU {metrics['mfu']:.2f}",
        f"MBU {metrics['mbu']:.2f}",
    ]


def _flow(items: Sequence[str], width: int) -> Iterable[Text]:
    """Yield lines of whole items."""
    line = ""
    for item in items:
        if line and len(line) + len(_GAP) + len(item) > width:
            yield Text(line)
            line = ""
        line += (_GAP if line else "") + item
    yield Text(line)


def _rests(plan: DeploymentPlan, metrics: Mapping[str, Any], what: str) -> Iterable[RenderableType]:
    parts = words.shares(metrics["time_by_part"])
    if parts:
        shares = ", ".join(f"{words.part_name(part, plan)} {words.percent(share)}" for part, share in parts)
        yield _hang(f"Time of a {what}:", f"{shares}.")
    evidence = metrics["time_by_evidence"]
    if evidence:
        shares = ", ".join(
            f"{words.percent(evidence[kind])} {kind}"
            for kind in words.EVIDENCE
            if evidence.get(kind, 0) >= 0.005
        )
        interval = words.error_interval(metrics)
        text = (
            f" 80 % interval of TPOT p50, for the error of the operator model alone: {interval}."
            if interval
            else ""
        )
        yield _hang("Rests on:", f"{shares}.{text}")


def _hang(label: str, text: str) -> RenderableType:
    """Return a label and its text, whose further lines start below its first."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row(Text(label, style="dim"), Text(text))
    return table


def _files(paths: Sequence[Path]) -> list[RenderableType]:
    """Return the files as one line: the folder once, and the names."""
    if not paths:
        return []
    ordered = sorted(paths, key=lambda path: path.suffix != ".html")
    names = [str(ordered[0]), *(path.name for path in ordered[1:])]
    return [Padding(Text(_GAP.join(names), style="cyan", overflow="fold"), (0, 0, 0, 2))]


def _safe(text: str, options: ConsoleOptions) -> str:
    return text.encode(options.encoding, "replace").decode(options.encoding)
