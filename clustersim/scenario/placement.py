"""Which accelerators of which nodes each replica gets: first fit, in the order of deployments and replicas.

A replica smaller than a node shares it with others; it goes to the first node with room for the whole of it. A larger
one takes whole nodes, the first that are free, and its rest goes to the first other node with room. Where no node has
room, though the cluster has, it is spread over what is left, in order; its cost is reckoned as if it were not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from clustersim.network.place import Place, Share

if TYPE_CHECKING:
    from clustersim.scenario.plan import DeploymentPlan
    from clustersim.scenario.schema import Cluster


class Vacancies:
    """The accelerators of a cluster that no replica has."""

    def __init__(self, cluster: str, num_nodes: int, per_node: int) -> None:
        self.cluster = cluster
        self.per_node = per_node
        self.free: list[list[int]] = [list(range(per_node)) for _ in range(num_nodes)]
        """By node, in order."""
        self.closed: set[int] = set()
        """Nodes that take no replicas."""

    @property
    def num_free(self) -> int:
        """Accelerators that could be taken."""
        return sum(len(free) for node, free in enumerate(self.free) if node not in self.closed)

    def take(self, num: int) -> Place | None:
        """Take the accelerators of one replica by the rule of this module; None if there are not so many."""
        if num > self.num_free:
            return None
        whole, rest = divmod(num, self.per_node)
        nodes = self._with(self.per_node)[:whole]
        first = next((node for node in self._with(rest) if node not in nodes), None) if rest else None
        if len(nodes) == whole and (first is not None or not rest):
            wanted = [(node, self.per_node) for node in nodes]
            return self._taken(wanted + ([(first, rest)] if first is not None else []))
        wanted = []
        for node in self._with(1):
            here = min(num, len(self.free[node]))
            if here:
                wanted.append((node, here))
            num -= here
        return self._taken(wanted)

    def give_back(self, place: Place) -> None:
        """Free the accelerators of a replica; raises ValueError if they were."""
        for node, accelerators in place.shares:
            free = self.free[node]
            if place.cluster != self.cluster or set(free) & set(accelerators):
                raise ValueError(f"{place} is not taken in {self.cluster}")
            self.free[node] = sorted([*free, *accelerators])

    def _with(self, num: int) -> list[int]:
        """Return the open nodes with so many free."""
        return [node for node, free in enumerate(self.free) if len(free) >= num and node not in self.closed]

    def _taken(self, wanted: Iterable[tuple[int, int]]) -> Place:
        shares = []
        for node, num in wanted:
            shares.append(Share(node, tuple(self.free[node][:num])))
            self.free[node] = self.free[node][num:]
        return Place(self.cluster, tuple(shares))


def vacancies(clusters: Iterable[Cluster]) -> dict[str, Vacancies]:
    """Return empty clusters by name."""
    return {each.name: Vacancies(each.name, each.count, each.node.count) for each in clusters}


def place(plans: Sequence[DeploymentPlan], free: dict[str, Vacancies] | None = None) -> list[list[Place]]:
    """Return the place of every replica, deployment by deployment; `free`, if given, is what there is to take.

    Raises ValueError where a cluster is too small, which `plan` has refused.
    """
    free = vacancies(each.cluster for each in plans) if free is None else free
    found = []
    for each in plans:
        num = each.deployment.parallelism.num_accelerators
        places = [free[each.cluster.name].take(num) for _ in range(each.deployment.replicas)]
        taken = [here for here in places if here is not None]
        if len(taken) < len(places):
            raise ValueError(
                f'"{each.cluster.name}" has no room for {len(places)} replicas of {num} accelerators'
            )
        found.append(taken)
    return found
