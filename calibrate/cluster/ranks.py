"""One Ray actor an accelerator (one a node on CPUs), a torch.distributed group in them, and how they end.

Ranks are expendable: max_restarts=0, an explicit timeout on everything, and the store stays with the driver. They
are numbered by the order of nodes, never by that of bundles, which changes from run to run.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

from calibrate.case import Case
from calibrate.cluster import node_sweep
from calibrate.cluster.collectives import collective
from calibrate.cluster.nodes import Node, interface_of, tcp_congestion_control
from calibrate.cluster.pairs import send
from calibrate.cluster.task import Task, recorded
from calibrate.timing import Rule

#: Seconds for a placement group, for actors to come up, and for torch to be imported on a busy node.
START_TIMEOUT_S = 180.0
#: After the first failure of a group, how long the others' words are waited for.
_GRACE_S = 3.0
LOST = "Ray lost the node"
#: Environment that changes what collectives do.
_TRAFFIC = ("NCCL_", "GLOO_", "TORCH_NCCL_", "OMP_NUM_THREADS")


class RankError(Exception):
    """A task was not measured: `what` is "failed" (it raised), "hung" or "died"; `who` are the ranks seen at fault."""

    def __init__(self, what: str, who: Sequence[str], text: str) -> None:
        super().__init__(text)
        self.what, self.who, self.text = what, tuple(who), text


class Rank:
    """What runs inside an actor: it joins a process group and measures its part of a task."""

    def __init__(self, name: str, env: Mapping[str, str]) -> None:
        os.environ.update(env)
        self.name = name
        self.groups: dict[tuple[int, ...], Any] = {}
        self.rank = 0
        self.store: Any = None

    def hello(self) -> dict[str, Any]:
        """Return what torch sees here and what decides over its traffic; part of the record, without addresses."""
        import torch

        chosen = {key: value for key, value in os.environ.items() if key.startswith(_TRAFFIC)}
        return {
            "cuda": torch.cuda.is_available(), "torch": torch.__version__, "kernel": platform.release(),
            "tcp": tcp_congestion_control(), "env": chosen,
        }  # fmt: skip

    def probe(self) -> float:
        """Return the seconds of a small product on its device: the node computes."""
        import torch

        self._open(torch)
        x = torch.ones(256, 256, device=self.device)
        began = time.perf_counter()
        float((x @ x).sum())
        return time.perf_counter() - began

    def _open(self, torch: Any) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if self.device == "cpu":
            torch.set_num_threads(1)

    def rendezvous(self, world: int, timeout_s: float) -> tuple[str, int]:
        """Open the store that ranks meet at, on a port the kernel picks; returns its address."""
        from datetime import timedelta

        import ray
        import torch.distributed as dist

        address = ray.util.get_node_ip_address()
        self.store = dist.TCPStore(
            address, 0, world, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=timeout_s)
        )
        return address, int(self.store.port)

    def join(
        self,
        rank: int,
        world: int,
        place: tuple[str, int],
        groups: Sequence[tuple[int, ...]],
        timeout_s: float,
    ) -> str:
        """Join the process group and its subgroups; returns the interface in use.

        GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME are set to the interface that holds the node's address unless the
        environment names another: gloo otherwise resolves the host's name, often to loopback.
        """
        from datetime import timedelta

        import ray
        import torch
        import torch.distributed as dist

        self._open(torch)
        limit = timedelta(seconds=timeout_s)
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            if name not in os.environ:
                os.environ[name] = interface_of(ray.util.get_node_ip_address())
        # 3: a timeout ends in an error here, not in the end of the process (torch 2.2 and later).
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "3")
        store = self.store or dist.TCPStore(place[0], place[1], world, is_master=False, timeout=limit)
        backend = "nccl" if self.device == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=limit)
        self.rank = rank
        self.groups = {each: dist.new_group(list(each), timeout=limit) for each in groups}
        return os.environ["GLOO_SOCKET_IFNAME"]

    def sweep_cases(self, plan: Any) -> list[dict[str, Any]]:
        """Return the cases of one device worth sweeping."""
        return [case.as_dict() for case in node_sweep.sweep_cases(plan)]

    def measure(
        self, case_: Mapping[str, Any], ranks: Sequence[int], rule_: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Measure a case together with `ranks`; returns its Samples as plain data on the first of them."""
        import torch
        import torch.distributed as dist

        case, rule = Case(**case_), Rule(**rule_)
        if case.bench not in ("link", "collective"):
            return node_sweep.measure_case(case, rule, node=self.name, rank=self.rank)
        group = self.groups.get(tuple(ranks))

        def run() -> tuple[Sequence[float], int]:
            if case.bench == "link":
                return send(dist, torch, self.device, case, ranks, rule, self._sync), 1
            return collective(dist, torch, self.device, case, ranks, rule, self._sync, group)

        return recorded(case, run, node=self.name, rank=self.rank)

    def _sync(self) -> None:
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()


class Group:
    """The driver's end: actors on nodes, joined into one process group."""

    def __init__(
        self,
        nodes: Sequence[Node],
        env: Mapping[str, str],
        groups: Sequence[tuple[str, ...]],
        timeout_s: float,
    ) -> None:
        """Place and join; raises RankError, after which nothing of it is left."""
        self.nodes, self.env = tuple(nodes), dict(env)
        self.actors: dict[str, Any] = {}
        self.placement: Any = None
        try:
            self._place()
            self.hello = self.ask("hello", dict.fromkeys(self.actors, ()), START_TIMEOUT_S)
            self._join(groups, timeout_s)
        except BaseException:
            self.kill()
            raise

    @property
    def ranks(self) -> list[str]:
        """Return the names of the ranks in their order."""
        return list(self.actors)

    def _place(self) -> None:
        import ray
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        bundles = [
            {"CPU": 1.0, **({"GPU": float(node.num_gpus)} if node.num_gpus else {})} for node in self.nodes
        ]
        where = [{"ray.io/node-id": node.node_id} for node in self.nodes]
        self.placement = placement_group(bundles, strategy="STRICT_SPREAD", bundle_label_selector=where)
        ready, _ = ray.wait([self.placement.ready()], timeout=START_TIMEOUT_S)
        if not ready:
            raise RankError("hung", (), f"no placement on {len(bundles)} nodes after {START_TIMEOUT_S:.0f} s")
        for bundle, node in enumerate(self.nodes):
            for name in node.rank_names:
                options = {
                    "num_cpus": 1.0 / node.num_ranks, "num_gpus": 1 if node.num_gpus else 0, "max_restarts": 0,
                    "scheduling_strategy": PlacementGroupSchedulingStrategy(self.placement, bundle),
                }  # fmt: skip
                self.actors[name] = ray.remote(Rank).options(**options).remote(name, self.env)

    def _join(self, groups: Sequence[tuple[str, ...]], timeout_s: float) -> None:
        order = {name: rank for rank, name in enumerate(self.actors)}
        first, world = self.ranks[0], len(order)
        place = self.ask("rendezvous", {first: (world, timeout_s)}, START_TIMEOUT_S)[first]
        numbered = [tuple(order[name] for name in each) for each in groups]
        calls = {name: (rank, world, place, numbered, timeout_s) for name, rank in order.items()}
        self.interfaces = self.ask("join", calls, START_TIMEOUT_S)

    def ask(self, method: str, calls: Mapping[str, tuple[Any, ...]], timeout_s: float) -> dict[str, Any]:
        """Call a method of several ranks at once; raises RankError for the first that fails, or at the limit."""
        refs = {getattr(self.actors[name], method).remote(*given): name for name, given in calls.items()}
        return gather(refs, timeout_s)

    def measure(self, task: Task, timeout_s: float) -> list[dict[str, Any]]:
        """Measure a task; returns the Samples of its parts as plain data."""
        from dataclasses import asdict

        order, rule = {name: rank for rank, name in enumerate(self.actors)}, asdict(task.rule)
        calls = {
            name: (part.case.as_dict(), [order[each] for each in part.ranks], rule)
            for part in task.parts
            for name in part.ranks
        }
        replies = self.ask("measure", calls, timeout_s)
        return [reply for reply in replies.values() if reply is not None]

    def kill(self) -> None:
        """End every actor and give the places back."""
        import ray
        from ray.util.placement_group import remove_placement_group

        for actor in self.actors.values():
            ray.kill(actor, no_restart=True)
        if self.placement is not None:
            remove_placement_group(self.placement)


def gather(refs: Mapping[Any, str], timeout_s: float) -> dict[str, Any]:
    """Return the results by rank; raises RankError. All are waited for at once: a death is seen when it occurs."""
    import ray

    left, found, deadline = list(refs), dict[str, Any](), time.monotonic() + timeout_s
    failures: dict[str, tuple[str, str]] = {}
    while left:
        ready, left = ray.wait(left, num_returns=1, timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            break
        for ref in ready:
            try:
                found[refs[ref]] = ray.get(ref, timeout=10.0)
            except ray.exceptions.RayActorError as error:
                failures[refs[ref]] = ("died", _first_line(error))
            except ray.exceptions.GetTimeoutError:
                failures[refs[ref]] = ("hung", "its result did not arrive in 10 s")
            except ray.exceptions.RayError as error:
                failures[refs[ref]] = ("failed", _first_line(error))
        if failures:
            deadline = min(deadline, time.monotonic() + _GRACE_S)
    if not left and not failures:
        return found
    for what in ("died", "failed"):
        who = [name for name, (kind, _) in failures.items() if kind == what]
        if who:
            raise RankError(what, who, f"{', '.join(who)}: {failures[who[0]][1]}")
    who = [*failures, *(refs[ref] for ref in left)]
    raise RankError("hung", who, f"no answer from {', '.join(who)} after {timeout_s:.0f} s")


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0][:300] if lines else ''}"


def probe(node: Node, env: Mapping[str, str], timeout_s: float) -> str:
    """Return why a node, asked alone, does not compute; empty if it does."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if not _alive(node):
        return LOST
    options = {
        "num_cpus": 1, "num_gpus": 1 if node.num_gpus else 0, "max_restarts": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node.node_id, soft=False),
    }  # fmt: skip
    actor = ray.remote(Rank).options(**options).remote(node.name, dict(env))
    try:
        gather({actor.probe.remote(): node.name}, timeout_s)
    except RankError as failure:
        return f"alone it {failure.what}: {failure.text}" if _alive(node) else LOST
    finally:
        ray.kill(actor, no_restart=True)
    return ""


def _alive(node: Node) -> bool:
    import ray

    return any(row["Alive"] for row in ray.nodes() if row["NodeID"] == node.node_id)
