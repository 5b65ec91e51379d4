"""How a row's GPUs are cut: one replica that does both phases, or pools that prefill and decode."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from clustersim.models.spec import ModelSpec
from clustersim.study.validation.rows import RefusedError, Row

#: "prefill 7x(TP2,EP2,DPattn)=14 GPUs; decode 1x(TP32,EP32,DPattn)=32 GPUs", in notes.
_POOL = re.compile(r"(prefill|decode) (\d+)x\(TP(\d+)(?:,EP(\d+))?(,DPattn)?\)")
_APART = "P/D"


@dataclass(frozen=True)
class Pool:
    """Equal replicas."""

    replicas: int
    parallelism: Mapping[str, int]

    @property
    def num_accelerators(self) -> int:
        """Accelerators of all its replicas."""
        each = self.parallelism
        return self.replicas * each.get("tp", 1) * each.get("pp", 1) * each.get("attention_dp", 1)


@dataclass(frozen=True)
class Layout:
    """The pool that decodes, and the one that prefills where it is another."""

    decode: Pool
    prefill: Pool | None = None
    assumes: tuple[str, ...] = ()

    @property
    def num_accelerators(self) -> int:
        """Accelerators of all pools."""
        return self.decode.num_accelerators + (self.prefill.num_accelerators if self.prefill else 0)


def layout_of(row: Row, model: ModelSpec) -> Layout:
    """Return the layout of a row; raises RefusedError for one that is not given in numbers."""
    if row.tp == _APART:
        return _apart(row)
    tp, pp = row.count("tp"), row.count("pp")
    if model.moe is None:
        return Layout(Pool(1, {"tp": tp, "pp": pp, "attention_dp": row.count("dp") if row.dp else 1}))
    if not row.ep or not row.dp:
        assumed = "experts and attention of a layout that is not printed: one rank of both a GPU"
        return Layout(Pool(1, {"ep": tp, "attention_dp": tp, "pp": pp}), assumes=(assumed,))
    ep, copies = row.count("ep"), row.count("dp")
    if ep == 1 and copies > 1:
        ep = copies * tp  # attention of several copies, experts dealt to all ranks
    return Layout(Pool(1, {"tp": tp, "pp": pp, "ep": ep, "attention_dp": copies}))


def _apart(row: Row) -> Layout:
    """Prefill and decode on different GPUs: the notes say how. DPattn: each rank holds its own requests (TP as DP)."""
    pools = {}
    for phase, replicas, tp, ep, own in _POOL.findall(row.notes):
        experts = {"ep": int(ep)} if ep else {}
        pools[phase] = Pool(int(replicas), {"attention_dp" if own else "tp": int(tp), **experts})
    if set(pools) != {"prefill", "decode"}:
        raise RefusedError("prefill and decode on different GPUs, and the notes do not say on which")
    return Layout(pools["decode"], pools["prefill"])
