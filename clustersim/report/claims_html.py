"""Checked claims as data, as a Markdown table for the documentation, and as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clustersim.report.claims_console import reasoning, summary
from clustersim.report.page import render
from clustersim.study.claims.check import Finding
from clustersim.study.claims.formula import amount


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return the findings as plain data; values are in the unit beside them."""
    return [
        {
            "id": found.claim.id,
            "claim": found.claim.claim,
            "said_by": found.claim.said_by,
            "said": found.claim.said.text,
            "kind": found.claim.check.kind,
            "answer": found.claim.answer,
            "verdict": found.verdict.ruling,
            "assumptions": list(found.verdict.assumptions),
            "steps": {
                line.step.name: {
                    "value": amount(line.value, line.step.unit),
                    "unit": "1" if line.step.unit in ("x", "%") else line.step.unit,
                    "shown": line.shown,
                    "by_hand": line.by_hand or None,
                    "as_by_hand": line.as_by_hand,
                }
                for line in found.lines
            },
            "inputs": {
                name: {"value": known.shown, "evidence": known.evidence, "source": known.source}
                for name, known in found.inputs.items()
            },
        }
        for found in findings
    ]


def markdown(findings: Sequence[Finding]) -> str:
    """Return the table of docs/background/claims.md."""
    lines = ["| id | claim | said | by hand | found | kind | verdict |", "|---|---|---|---|---|---|---|"]
    for found in findings:
        claim, answer = found.claim, found.answer
        cells = (claim.id, claim.claim, claim.said.text, answer.by_hand, answer.shown, claim.check.kind,
                 found.verdict.ruling)  # fmt: skip
        lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def html(findings: Sequence[Finding]) -> str:
    """Return one page that needs nothing else: the table, and each claim's derivation."""
    return render(
        "claims.html",
        title="Claims, checked",
        findings=findings,
        reasons={found.claim.id: list(reasoning(found)) for found in findings},
        summary=summary(findings),
    )
