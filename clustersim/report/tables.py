"""Tables for the terminal: the operators of a step, the memory of an accelerator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from clustersim.scenario.plan import DeploymentPlan
from clustersim.units import GIGA, si

if TYPE_CHECKING:
    from clustersim.study.explain import StepAccount

_STYLES = {"compute": "green", "memory": "cyan", "network": "magenta", "launch": "yellow"}


def step_table(step: StepAccount) -> RenderableType:
    """Return the account of a step as a table, with where its time goes and the launch wall below."""
    table = Table(title=step.title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for header, justify in (("operator", "left"), ("shape", "left"), ("calls", "right"), ("FLOP", "right"),
                            ("bytes", "right"), ("a call", "right"), ("in all", "right"), ("share", "right"),
                            ("bound by", "left"), ("evidence", "left")):  # fmt: skip
        table.add_column(header, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # a literal
    for op in step.ops:
        table.add_row(
            op.name, op.shape, str(op.count), si(op.flops) if op.flops else "-", si(op.bytes, "B"),
            si(op.call_s, "s"), si(op.total_s, "s"), f"{op.total_s / step.step_s:.1%}",
            Text(op.bound_by, style=_STYLES[op.bound_by]), op.evidence,
        )  # fmt: skip
    if step.host_s:
        table.add_row("host", "", "1", "-", "-", si(step.host_s, "s"), si(step.host_s, "s"),
                      f"{step.host_s / step.step_s:.1%}", "host", step.host_evidence)  # fmt: skip
    parts = ", ".join(
        f"{part} {seconds / step.step_s:.0%}"
        for part, seconds in sorted(step.parts.items(), key=lambda item: -item[1])
        if seconds
    )
    how = "replayed from a captured graph" if step.graph else "launched one by one"
    wall = (
        f"{step.num_kernels} kernels, {how}; at the device's launch latency alone they take "
        f"{si(step.launch_wall_s, 's')}{'' if step.graph else ', the wall below which no such step gets'}."
        + (
            f" {si(step.hidden_host_s, 's')} of the host are hidden behind the device."
            if step.hidden_host_s
            else ""
        )
    )
    sources = Table(box=None, pad_edge=False, show_header=False)
    seen: dict[str, list[str]] = {}
    for op in step.ops:
        seen.setdefault(f"{op.evidence}: {op.source}", []).append(op.name)
    if step.host_s or step.hidden_host_s:
        seen.setdefault(f"{step.host_evidence}: {step.host_source}", []).append("host")
    for source, names in seen.items():
        sources.add_row(Text(", ".join(names), style="dim"), Text(source, style="dim"))
    total = Text(
        f"step {si(step.step_s, 's')} = device {si(step.device_s, 's')} + host {si(step.host_s, 's')}   ({parts})",
        style="bold",
    )
    note = [Text(step.note, style="bold yellow")] if step.note else []
    if step.speculated is not None:
        each = step.speculated
        note.insert(0, Text(
            f"draft {si(each.draft_s, 's')} ({each.draft_s / step.step_s:.0%}) + verify {si(each.verify_s, 's')} "
            f"({each.verify_s / step.step_s:.0%}) + host {si(step.host_s, 's')}: {each.num_draft_tokens} drafts, "
            f"{each.tokens_per_step:.2f} tokens a step, {si(each.token_s, 's')} a token; without drafts "
            f"{si(each.plain_step_s, 's')}: {each.gain:.2f} times as fast",
            style="bold",
        ))  # fmt: skip
    return Group(table, total, *note, Text(wall), Text("Sources", style="dim bold"), sources, Text(""))


def plain_table(rows: Sequence[Mapping[str, object]]) -> Table:
    """Return rows of equal keys as a table, numbers to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, (key, value) in enumerate(rows[0].items()):
        number = isinstance(value, int | float)
        table.add_column(key, justify="right" if number else "left", no_wrap=index == 0)
    for row in rows:
        table.add_row(*("-" if value is None else escape(str(value)) for value in row.values()))
    return table


#: Metrics shown with their intervals; all of them are in result.json.
_HEADLINES = (
    "accuracy", "usd_per_task", "usd_per_solved", "joules_per_task", "joules_per_solved", "task_goodput_frac",
    "p50_task_ttfo_ms", "p50_task_e2el_ms", "p99_task_e2el_ms", "output_tokens_per_task", "wasted_frac",
    "request_throughput", "output_throughput", "goodput_frac", "p50_ttft_ms", "p99_ttft_ms", "p50_ttfo_ms",
    "p50_tpot_ms", "p99_tpot_ms", "p50_e2el_ms", "p99_e2el_ms", "utilisation", "mean_kv_frac",
    "usd_per_output_mtok", "joules_per_output_token", "gco2e_per_output_mtok",
    "prefix_hit_frac", "shed_frac", "availability_frac", "gpu_hours",
)  # fmt: skip


def replications_table(intervals: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    """Return means over replications with their 95 % intervals."""
    num = max((each["n"] for each in intervals.values()), default=0)
    title = f"{num} replications, 95 % intervals of the mean"
    table = Table(
        box=None, pad_edge=False, header_style="bold", title=title, title_justify="left", title_style="bold"
    )  # fmt: skip
    for header in ("metric", "mean", "low", "high", "+-"):
        table.add_column(header, justify="left" if header == "metric" else "right")
    for name in _HEADLINES:
        each = intervals.get(name)
        if each is None:
            continue
        if each["mean"] is None:
            table.add_row(name, "unbounded or missing in some replication", "", "", "")
            continue
        mean, low, high = each["mean"], each["low"], each["high"]
        half = f"{(high - low) / 2 / abs(mean):.1%}" if mean else "-"
        table.add_row(name, f"{mean:.5g}", f"{low:.5g}", f"{high:.5g}", half)
    return table


def memory_table(plan: DeploymentPlan) -> RenderableType:
    """Return what fills one accelerator, and the KV capacity of a replica."""
    memory, device = plan.memory, plan.cluster.node.accelerator
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    table.add_column(justify="right", style="dim")
    for what, size in memory.rows():
        table.add_row(what, f"{size / GIGA:.2f} GB", f"{size / memory.capacity_bytes:.1%}")
    longest = min(plan.max_model_len, memory.tokens_per_rank)
    lines: list[RenderableType] = [
        Text(f"{plan.deployment.name}: {plan.deployment.model.name}, {plan.deployment.replicas} replicas on "
             f"{plan.num_accelerators} of {plan.cluster.num_accelerators} {device.name}", style="bold"),
        Text(f"Memory of one accelerator, {memory.capacity_bytes / GIGA:.1f} GB:"),
        table,
        Text(f"KV cache of a replica: {memory.kv_tokens:,} tokens ({memory.num_blocks:,} blocks of "
             f"{memory.engine.block_size}), {memory.kv_bytes_per_token / 1000:.1f} kB a token on a rank"),
        Text(f"Longest request: {longest:,} tokens" + ("" if longest == plan.max_model_len else
             f" (what the cache of a rank holds; the model allows {plan.max_model_len:,})")),
        Text(f"Profile: {plan.profile.device}/{plan.profile.name}, {plan.profile.evidence}"),
        Text(""),
    ]  # fmt: skip
    return Group(*lines)
