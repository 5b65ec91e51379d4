"""Time of collectives between the ranks of a replica: measured fits where there are some, alpha-beta forms elsewhere.

A message of S bytes on n ranks, over a link of bandwidth b with launch L and latency a (Thakur et al., IJHPCA 2005,
for ring and tree; NVIDIA/nccl src/graph/tuning.cc for the others):

    ring          all_reduce L + 2(n-1) a + 2(n-1)/n S/b;   all_gather, reduce_scatter, all_to_all: half of it
    tree          all_reduce L + 2 ceil(log2 n) a + 2 S/b
    one_shot      all_reduce L + a + (n-1) S/b: every rank reads all others' buffers; wins for small messages
    nvls          all_reduce L + 2 a + (n+1)/n S/b: the switch adds
    hierarchical  reduce-scatter in the node, all-reduce of S/g between nodes, all-gather in the node (g ranks a node)

The fastest is taken, as NCCL's tuner does. An exchange of tokens by kernels that know of nodes (see
clustersim.models.exchange) takes L + a + max(bytes within nodes / scale-up b, bytes between nodes / network b).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from clustersim.cost.profile import Profile
from clustersim.hardware.figure import Evidence
from clustersim.hardware.link import Link
from clustersim.models.ops import Op
from clustersim.models.step import Numbers
from clustersim.network.topologies import Path

#: Share of a link's datasheet bandwidth that a collective reaches where none was measured: InferSim 0.8;
#: an H200 pair copies at 396 of 450 GB/s = 0.88 (stas00/ml-engineering network/README.md); calculon 0.90 scale-out.
_LINK_FRAC = 0.8


class Timing(NamedTuple):
    """Seconds of a collective, those of them that are latency, and how it is known."""

    seconds: Numbers
    latency_s: Numbers
    algorithm: str
    evidence: Evidence
    source: str
    rel_error: float | None = None


@dataclass(frozen=True)
class Fabric:
    """What joins the accelerators of a cluster: the scale-up link of `domain` of them, the network beyond."""

    scale_up: Link | None
    domain: int
    scale_out: Path
    profile: Profile

    def time(self, op: Op) -> Timing:
        """Return the time of a collective operator; its ranks lie `op.stride` apart, from the first of a node."""
        per_node = max(1, min(op.ranks, self.domain // op.stride))
        if op.fanout is not None:
            return self._fanned_out(op, per_node)
        if per_node >= op.ranks:
            return self._inside(op)
        if op.family == "send":
            return self._send(op, self._out())
        if per_node == 1:
            return _alpha_beta(op, self._out(), False)
        if op.family == "all_to_all":
            return self._split_all_to_all(op, per_node)
        return self._hierarchical(op, per_node)

    def _inside(self, op: Op) -> Timing:
        fits = self.profile.collectives.get(op.family, {})
        link = self.scale_up.bandwidth_bytes_per_s.value if self.scale_up else None
        found = []
        for name, fit in fits.items():
            if op.ranks > 2 * max(fit.bandwidth_frac):
                continue
            seconds = fit.seconds(op.message_bytes, op.ranks, link)
            error = fit.error.median_ape_frac if fit.error else None
            empty = np.minimum(fit.seconds(np.zeros(()), op.ranks, link), seconds)
            if name != "nccl":  # a kernel for small messages
                seconds = np.where(op.message_bytes <= fit.largest_message_bytes, seconds, np.inf)
            found.append(Timing(seconds, empty, name, fit.evidence, fit.source, error))
        if any(timing.algorithm == "nccl" for timing in found):
            return _fastest(found)
        if op.family == "send":
            return self._send(op, self._in())
        return _alpha_beta(op, self._in(), bool(self.scale_up and self.scale_up.in_network_reduction))

    def _in(self) -> Path:
        if self.scale_up is None:
            return self._out()
        link = self.scale_up
        figure = link.bandwidth_bytes_per_s
        frac = _reached(figure.evidence)
        return Path(figure.value * frac, link.latency_s.value, link.launch_s.value, figure.evidence,
                    f"alpha-beta over {link.name} at {frac:.0%} of its bandwidth")  # fmt: skip

    def _out(self) -> Path:
        path = self.scale_out
        frac = _reached(path.evidence)
        return path._replace(
            bandwidth_bytes_per_s=path.bandwidth_bytes_per_s * frac,
            source=f"alpha-beta between nodes at {frac:.0%} of {path.source}",
        )

    def _send(self, op: Op, path: Path) -> Timing:
        latency = np.broadcast_to(path.launch_s + path.latency_s, np.shape(op.message_bytes))
        seconds = latency + op.message_bytes / path.bandwidth_bytes_per_s
        return Timing(seconds, latency, "send", path.evidence, path.source)

    def _split_all_to_all(self, op: Op, per_node: int) -> Timing:
        """Both fabrics carry their share at once; the slower one decides."""
        outside = (op.ranks - per_node) / op.ranks
        inner = self._inside(replace(op, ranks=per_node, message_bytes=op.message_bytes * (1 - outside)))
        out = self._out()
        latency = out.launch_s + out.latency_s
        outer = latency + op.message_bytes * outside / out.bandwidth_bytes_per_s
        seconds = np.maximum(inner.seconds, outer)
        return Timing(seconds, np.minimum(latency, seconds), "split", out.evidence, out.source)

    def _fanned_out(self, op: Op, per_node: int) -> Timing:
        """Tokens go out by kernels that know of nodes; what passes both fabrics streams, so the slower one decides."""
        assert op.fanout is not None
        routes = op.fanout.routes(per_node)
        near, out = self._in(), self._out()
        path = out if routes.outside else near
        inner = op.message_bytes * (routes.inside / routes.delivered) / near.bandwidth_bytes_per_s
        outer = op.message_bytes * (routes.outside / routes.delivered) / out.bandwidth_bytes_per_s
        passed_on = routes.outside and op.fanout.kernels == "deepep_high_throughput"
        latency = path.launch_s + path.latency_s + (near.latency_s if passed_on else 0.0)
        seconds = np.where(op.message_bytes > 0, latency, 0.0) + np.maximum(inner, outer)
        return Timing(seconds, np.minimum(latency, seconds), op.fanout.kernels, path.evidence, path.source)

    def _hierarchical(self, op: Op, per_node: int) -> Timing:
        nodes = -(-op.ranks // per_node)
        between = _alpha_beta(
            replace(op, ranks=nodes, message_bytes=op.message_bytes / per_node), self._out(), False
        )
        families = ("reduce_scatter", "all_gather") if op.family == "all_reduce" else (op.family,)
        inside = [self._inside(replace(op, family=family, ranks=per_node)) for family in families]  # type: ignore[arg-type]  # both are families
        seconds = between.seconds + sum(part.seconds for part in inside)
        latency = between.latency_s + sum(part.latency_s for part in inside)
        hierarchical = Timing(seconds, latency, "hierarchical", between.evidence, between.source)
        return _fastest([hierarchical, _alpha_beta(op, self._out(), False)])


def _reached(evidence: Evidence) -> float:
    """Return the share of a link's figure that messages reach; a measured figure is what they reached."""
    return 1.0 if evidence == "measured" else _LINK_FRAC


def _alpha_beta(op: Op, path: Path, reduces: bool) -> Timing:
    n, size = op.ranks, op.message_bytes
    seconds_a_byte = 1 / path.bandwidth_bytes_per_s
    forms: dict[str, tuple[float, float]] = {"ring": (n - 1, (n - 1) / n)}
    if op.family == "all_reduce":
        forms = {
            "ring": (2 * (n - 1), 2 * (n - 1) / n),
            "tree": (2 * np.ceil(np.log2(n)), 2.0),
            "one_shot": (1, n - 1),
        }
        if reduces:
            forms["nvls"] = (2, (n + 1) / n)
    elif op.family == "all_to_all":
        forms = {"direct": (1, (n - 1) / n)}
    found = []
    for name, (hops, traffic) in forms.items():
        latency = np.broadcast_to(path.launch_s + hops * path.latency_s, np.shape(size)).astype(float)
        found.append(
            Timing(latency + traffic * size * seconds_a_byte, latency, name, path.evidence, path.source)
        )
    return _fastest(found)


def _fastest(timings: list[Timing]) -> Timing:
    """Return the smallest time at every size; the name and source are those of the form that wins most often."""
    seconds = np.stack(np.broadcast_arrays(*(timing.seconds for timing in timings)))
    best = seconds.argmin(axis=0)
    latency = np.stack(np.broadcast_arrays(*(timing.latency_s for timing in timings)))
    winner = timings[int(np.bincount(np.ravel(best), minlength=len(timings)).argmax())]
    pick = best[None]
    return winner._replace(
        seconds=np.take_along_axis(seconds, pick, 0)[0], latency_s=np.take_along_axis(latency, pick, 0)[0]
    )
