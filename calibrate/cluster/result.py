"""What a cluster's samples say: links, collectives, spread over devices, what is missing; cluster.yaml."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.case import Samples
from calibrate.cluster.node_sweep import Spread, spreads
from calibrate.cluster.segments import SizeSamples
from calibrate.linkfit import BULK_BYTES, LinkFit, bus_factor, fit_link, missing_links
from clustersim.units import write

CLUSTER, NODE = "cluster.yaml", "node.yaml"
#: Path of a link inside a node.
INSIDE = "node"
_HOW = """# The network port of one accelerator, as measured. In a scenario:
#   node: {base: <the node>, nic: <as below>, nics_per_accelerator: 1}
"""
#: The size whose time together over its time alone is the contention.
_COMPARED_BYTES = 8 * 2**20


@dataclass
class ClusterResult:
    """Everything that a run found, read from its store."""

    folder: Path
    nodes: list[str]
    links: list[LinkFit]
    collectives: list[LinkFit]
    rows: list[dict[str, Any]]
    """One a collective and size: seconds, bus bandwidth, samples."""
    spreads: list[Spread]
    quarantined: dict[str, str] = field(default_factory=dict)
    """Node -> why it was left out."""
    gaps: dict[str, str] = field(default_factory=dict)
    """Case, in words -> why it was not measured."""

    @property
    def stragglers(self) -> list[str]:
        """Return devices found slow in any case."""
        return sorted({rank for each in self.spreads for rank in each.stragglers})

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, what cluster.yaml holds."""
        return {
            "schema": 1, "nodes": self.nodes, "quarantined": self.quarantined,
            "links": [each.as_dict() for each in self.links],
            "collectives": {"fits": [each.as_dict() for each in self.collectives], "rows": self.rows},
            "devices": [each.as_dict() for each in self.spreads], "stragglers": self.stragglers, "missing": self.gaps,
        }  # fmt: skip

    def node(self, date: str) -> dict[str, Any] | None:
        """Return what the links say of a scenario's node (`node: {base: ..., nic: ...}`): medians over the links.

        What one rank gets between two nodes, alone, is one accelerator's share of the ports. None where no link
        between nodes was measured.
        """
        between = [fit for fit in self.links if fit.bandwidth_bytes_per_s and fit.path != INSIDE]
        if not between:
            return None
        doubtful = sum(fit.quality != "ok" for fit in between)
        source = (
            f"calibrate: median of {len(between)} links between nodes, {doubtful} of them contended or poor"
        )

        def figure(value: float, unit: str, what: str) -> dict[str, str]:
            value = float(f"{value:.6g}")
            return {
                "value": write(value, unit),
                "evidence": "measured",
                "source": f"{source}; {what}",
                "date": date,
            }

        bandwidth = float(
            np.median([fit.bandwidth_bytes_per_s.value for fit in between if fit.bandwidth_bytes_per_s])
        )
        latency_s = float(np.median([fit.latency_s.value for fit in between if fit.latency_s]))
        return {
            "nic": {
                "bandwidth": figure(bandwidth, "B/s", "slope of messages of 2 MiB and more"),
                "latency": figure(latency_s, "s", "of an empty message, its launch included"),
                "launch": figure(0.0, "s", "told as part of the latency"),
            },
            "nics_per_accelerator": 1,
        }

    def write(self) -> Path:
        """Write cluster.yaml and, where links were measured, node.yaml beside the samples; returns the first."""
        (self.folder / CLUSTER).write_text(_yaml(self.as_dict()), encoding="utf-8")
        node = self.node(datetime.now(UTC).date().isoformat())
        if node is None:
            (self.folder / NODE).unlink(missing_ok=True)
        else:
            (self.folder / NODE).write_text(_HOW + _yaml(node), encoding="utf-8")
        return self.folder / CLUSTER


def _yaml(data: Mapping[str, Any]) -> str:
    from ruamel.yaml import YAML

    text, yaml = io.StringIO(), YAML()
    yaml.width = 110
    yaml.dump(data, text)
    return text.getvalue()


def build(
    folder: Path, nodes: Sequence[str], samples: Sequence[Samples], pairs: Sequence[tuple[str, str]], *,
    network: str = "tcp", quarantined: Mapping[str, str] | None = None, gaps: Mapping[str, str] | None = None,
) -> ClusterResult:  # fmt: skip
    """Fit what was measured; `pairs` are all links there should be, and those without a fit are missing."""
    lost, why = dict(quarantined or {}), dict(gaps or {})
    links, absent = [], dict[tuple[str, str], str]()
    for a, b in pairs:
        found = [each for each in samples if each.case.bench == "link" and each.case.path == f"{a}-{b}"]
        path = INSIDE if _node_of(a, nodes) == _node_of(b, nodes) else network
        fit = _link(found, path, a, b)
        if fit is not None:
            links.append(fit)
        else:
            dead = [
                f"{node}: {lost[node]}" for node in (_node_of(a, nodes), _node_of(b, nodes)) if node in lost
            ]
            absent[a, b] = "; ".join(dead) or next(
                (text for name, text in why.items() if f"{a}-{b}" in name), "not measured"
            )
    collectives, rows = _collectives(samples, network)
    links += missing_links(absent, network)
    return ClusterResult(folder, list(nodes), links, collectives, rows, spreads(samples), lost, why)


def _node_of(rank: str, nodes: Sequence[str]) -> str:
    return rank if rank in nodes else rank.rpartition(":")[0]


def _link(samples: Sequence[Samples], path: str, a: str, b: str) -> LinkFit | None:
    """Return the fit; None where the link was not measured up to the sizes that tell its bandwidth."""
    alone = [each for each in samples if "together" not in each.case.shape]
    together = [each for each in samples if "together" in each.case.shape]
    used = alone or together
    back = [np.median(each.seconds) / 2 for each in alone if each.case.shape["bytes"] == 1]
    factor = None
    pair = [_of_size(group, _COMPARED_BYTES) for group in (together, alone)]
    if pair[0] and pair[1]:
        factor = pair[0] / pair[1]
    sizes = _sizes(used, 1.0)
    if len({each.bytes for each in sizes if each.bytes >= BULK_BYTES}) < 2:
        return None
    return fit_link(
        sizes, ack_s=float(back[0]) if back else 0.0, contended=_contended(used), path=path, a=a, b=b,
        contention_factor=factor, flags=() if alone else ("only_together",),
    )  # fmt: skip


def _of_size(samples: Sequence[Samples], size: int) -> float | None:
    found = [each for each in samples if each.case.shape["bytes"] == size and each.case.shape.get("drained")]
    return float(np.median(found[0].seconds)) if found else None


def _contended(samples: Sequence[Samples]) -> bool:
    return sum("contended" in each.flags for each in samples) > 0.1 * len(samples)


def _sizes(samples: Sequence[Samples], factor: float) -> list[SizeSamples]:
    grouped: dict[tuple[float, bool], list[Samples]] = {}
    for each in samples:
        size = each.case.shape["bytes"]
        if size > 1:
            grouped.setdefault((size * factor, bool(each.case.shape.get("drained"))), []).append(each)
    return [
        SizeSamples(size, tuple(np.asarray(each.seconds) for each in group), drained)
        for (size, drained), group in grouped.items()
    ]


def _collectives(samples: Sequence[Samples], network: str) -> tuple[list[LinkFit], list[dict[str, Any]]]:
    grouped: dict[tuple[str, str, int], list[Samples]] = {}
    rows = []
    for each in samples:
        case = each.case
        if case.bench != "collective":
            continue
        ring = case.shape.get("ring", 0)
        grouped.setdefault((case.op, case.path, ring), []).append(each)
        seconds = float(np.median(each.seconds))
        wire = case.shape["bytes"] * bus_factor(case.op, case.ranks)
        rows.append(
            {
                "op": case.op, "ranks": case.ranks, "group": case.path, "ring_forced": bool(ring),
                "bytes": case.shape["bytes"], "seconds": seconds, "num_samples": len(each.seconds),
                "bus_bytes_per_s": wire / seconds if wire else None, "flags": list(each.flags),
            }
        )  # fmt: skip
    fits = []
    for (op, group, ring), found in grouped.items():
        factor = bus_factor(op, found[0].case.ranks)
        try:
            fits.append(
                fit_link(
                    _sizes(found, factor), path=network, a=group, b=group, op=op, ranks=found[0].case.ranks,
                    contended=_contended(found), flags=("ring_forced",) if ring else (),
                )
            )  # fmt: skip
        except ValueError:
            continue  # barrier, or too few sizes: its rows stand
    return fits, rows
