"""Checked claims in a terminal: the table, and one claim's derivation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import get_args

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clustersim.study.claims.check import Finding, Line
from clustersim.study.claims.verdict import Ruling

_STYLES: Mapping[str, str] = MappingProxyType(
    {"holds": "green", "holds under stated assumptions": "yellow", "does not hold": "red"}
)


def table(findings: Sequence[Finding]) -> RenderableType:
    """Return all claims: what was said, what is expected by hand, what was found, and the verdict."""
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    rows.add_column("id", no_wrap=True)
    for name in ("claim", "said", "by hand", "found"):
        rows.add_column(name, overflow="fold")
    rows.add_column("verdict", min_width=13)
    for found in findings:
        claim, answer = found.claim, found.answer
        rows.add_row(claim.id, Text(claim.claim), Text(claim.said.text), answer.by_hand, answer.shown,
                     Text(found.verdict.ruling, style=_STYLES[found.verdict.ruling]))  # fmt: skip
    return Group(rows, Text(""), Text(summary(findings)))


def summary(findings: Sequence[Finding]) -> str:
    """Return how many claims got which verdict, in one sentence."""
    counts = Counter(found.verdict.ruling for found in findings)
    rulings: tuple[Ruling, ...] = get_args(Ruling)
    said = ", ".join(f"{counts[ruling]} {ruling}" for ruling in rulings)
    return f"{len(findings)} {'claim' if len(findings) == 1 else 'claims'}: {said}."


def derivation(found: Finding) -> RenderableType:
    """Return one claim with every number, where it comes from, and how the verdict follows."""
    claim = found.claim
    parts: list[RenderableType] = [
        Text(f"{claim.id}  {claim.claim}", style="bold"),
        Text(f"Said by {claim.said_by}. Checked ({claim.check.kind}): {claim.asked}\n"),
        _steps(found.lines),
        Text(""),
        *(Text(line) for line in reasoning(found)),
    ]
    if found.inputs:
        parts += [Text("\nInputs", style="bold"), _inputs(found)]
    return Group(*parts)


def reasoning(found: Finding) -> Iterator[str]:
    """Yield how the verdict follows from the answer."""
    claim, verdict = found.claim, found.verdict
    yield f"Said: {claim.said.text}. Found: {found.answer.shown} ({claim.answer})."
    for assuming, line in found.otherwise:
        yield f"If {assuming}: {line.shown} ({line.step.name})."
    yield f"Verdict: {verdict.ruling}."
    yield from (f"Assumes: {text}." for text in verdict.assumptions)
    if claim.note:
        yield " ".join(claim.note.split())


def _steps(lines: Sequence[Line]) -> Table:
    steps = Table(
        "step",
        "formula",
        "with numbers",
        "value",
        "by hand",
        "",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for line in lines:
        numbers = "" if line.with_numbers in (line.step.formula, line.shown) else line.with_numbers
        value = Text(line.shown, style="" if line.as_by_hand else "bold red")
        steps.add_row(
            line.step.name, Text(line.step.formula), Text(numbers), value, line.by_hand, Text(line.step.why)
        )
    return steps


def _inputs(found: Finding) -> Table:
    inputs = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for name, known in found.inputs.items():
        inputs.add_row(name, known.shown, known.evidence, Text(known.source))
    return inputs
