"""The channels of a fleet, and the routes between places in it.

    between nodes      ports of the accelerators -> ports of the node -> spine, if oversubscribed -> WAN, between sites
                       -> ports of the other node -> ports of its accelerators
    within a node      scale-up out of the accelerators -> scale-up into the others
    host memory        host link of the node -> host links of the accelerators
    local storage      its drives -> host links
    remote storage     what the store gives in all -> what it gives a node -> host links; on a network of its own

Each is one channel per direction. The ports of a node are one channel with the bandwidth of all its accelerators'
shares; a replica on some of its accelerators has theirs besides. Channels are made when first needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import NamedTuple, Protocol

from clustersim.hardware.link import Link
from clustersim.hardware.node import Node
from clustersim.hardware.site import Site
from clustersim.network.channel import Channel, Route
from clustersim.network.flows import Flows
from clustersim.network.place import Place, Share, meetings
from clustersim.network.topologies import Network
from clustersim.network.wan import fibre_latency_s

#: Share of the ports' bandwidth that a transfer of KV reaches. Mooncake's transfer engine: 142.25 of 200 GB/s for
#: 4.5 GB between two vLLM (kvcache-ai.github.io/Mooncake, vLLM V1 benchmark); 87 of 100 and 190 of 400 GB/s for 40 GB
#: (its README).
NIC_FRAC = 0.71
#: Its software's time beside that, fitted to the same table: 0.54 ms for 20 MB, 1.50 ms for 146 MB.
SETUP_S = 0.4e-3
#: An H200 pair copies at 396 of NVLink's 450 GB/s (stas00/ml-engineering network/README.md).
SCALE_UP_FRAC = 0.88
#: Of host links and wide-area links, assumed: InferSim's 0.8 of any link. Figures of storage are what is reached.
OTHER_FRAC = 0.8


def host_link(node: Node) -> tuple[float, float] | None:
    """Return (bytes a second, latency in seconds) between an accelerator and its host; None where they share memory."""
    link, figure = node.host_link, node.accelerator.host_link_bytes_per_s
    if link is not None:
        rate = link.bandwidth_bytes_per_s.value * _frac(link, OTHER_FRAC)
        return rate, link.launch_s.value + link.latency_s.value
    if figure is not None:
        return figure.value * (1.0 if figure.evidence == "measured" else OTHER_FRAC), 0.0
    return None


class Wired(Protocol):
    """What the interconnect needs to know of a cluster."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def node(self) -> Node: ...  # noqa: D102
    @property
    def count(self) -> int: ...  # noqa: D102
    @property
    def network(self) -> Network: ...  # noqa: D102
    @property
    def local_store(self) -> Link: ...  # noqa: D102
    @property
    def remote_store(self) -> Link: ...  # noqa: D102
    @property
    def remote_store_total_bytes_per_s(self) -> float | None: ...  # noqa: D102


class _Hops:
    """A route in the making: the share of the bytes that passes each channel."""

    def __init__(self) -> None:
        self.shares: dict[Channel, float] = {}
        self.latency_s = 0.0
        self.cap_bytes_per_s = inf

    def add(self, share: float, *channels: Channel) -> None:
        for channel in channels:
            self.shares[channel] = self.shares.get(channel, 0.0) + share

    def route(self, streams: int) -> Route:
        hops = tuple((channel, share * streams) for channel, share in self.shares.items())
        return Route(hops, float(streams), self.latency_s, self.cap_bytes_per_s)


class _Reach(NamedTuple):
    """What one accelerator gets of a link, and what a whole node gets; bytes a second."""

    accelerator: float
    node: float


class Interconnect:
    """All channels of a fleet's clusters."""

    def __init__(self, flows: Flows, clusters: Iterable[tuple[Wired, Site]], wan: Link) -> None:
        self.flows = flows
        self.clusters: Mapping[str, tuple[Wired, Site]] = {each.name: (each, site) for each, site in clusters}
        self.wan = wan
        self._channels: dict[str, tuple[Channel, float]] = {}
        self._fracs: dict[str, float] = {}
        self._routes: dict[tuple[str, Place, Place | None], Route] = {}

    # ---- routes ------------------------------------------------------------------------------------------------

    def path(self, source: Place, target: Place) -> Route:
        """Return the route of bytes that both places hold evenly over their accelerators, in order of rank.

        The wider side has one stream an accelerator. Nothing passes from accelerators to themselves.
        """
        return self._known("path", source, target)

    def from_host(self, place: Place) -> Route:
        """Return the route from the memory of its hosts; without channels where accelerators share it."""
        return self.spill(place, "host_memory", "accelerators")

    def to_host(self, place: Place) -> Route:
        """Return the route to the memory of its hosts."""
        return self.spill(place, "accelerators", "host_memory")

    def from_local_store(self, place: Place) -> Route:
        """Return the route from the drives of its nodes, each holding what its accelerators need."""
        return self.spill(place, "local_store", "accelerators")

    def to_local_store(self, place: Place) -> Route:
        """Return the route to the drives of its nodes."""
        return self.spill(place, "accelerators", "local_store")

    def from_remote_store(self, place: Place) -> Route:
        """Return the route from the cluster's remote store."""
        return self.spill(place, "remote_store", "accelerators")

    def to_remote_store(self, place: Place) -> Route:
        """Return the route to the cluster's remote store."""
        return self.spill(place, "accelerators", "remote_store")

    def spill(self, place: Place, source: str, target: str) -> Route:
        """Return the route between two of a place's "accelerators", "host_memory", "local_store" and "remote_store".

        All pass host memory; drives and stores are reached by links of their own from there.
        """
        return self._known(f"{source}>{target}", place)

    # ---- failures ------------------------------------------------------------------------------------------------

    def set_frac(self, what: str, frac: float) -> None:
        """Leave a share of the bandwidth to everything under a name: 0 for a failure, 1 for the repair.

        Names: "pool/3" is node 3 of cluster pool with its drives, "pool/3/nic" its ports, "pool/spine",
        "pool/remote_store", "wan/us-iowa/de-frankfurt" one direction between sites, "pool" the whole cluster.
        """
        if not 0.0 <= frac <= 1.0:
            raise ValueError(f"{frac} of the bandwidth of {what}")
        first = what.split("/", 1)[0]
        if first not in (*self.clusters, "wan"):
            raise KeyError(f'no cluster "{first}"; there are {", ".join(self.clusters)}')
        self._fracs[what] = frac
        for name, (channel, full) in self._channels.items():
            if _under(name, what):
                self.flows.set_capacity(channel, full * self._left(name))

    def channel(self, name: str) -> Channel | None:
        """Return a channel by its name, e.g. "pool/3/nic/out"; None if nothing has needed it yet."""
        found = self._channels.get(name)
        return found[0] if found else None

    def _left(self, name: str) -> float:
        left = 1.0
        for what, frac in self._fracs.items():
            if _under(name, what):
                left *= frac
        return left

    # ---- making them ---------------------------------------------------------------------------------------------

    def _known(self, kind: str, place: Place, other: Place | None = None) -> Route:
        key = (kind, place, other)
        if key not in self._routes:
            self._routes[key] = self._between(place, other) if other else self._store(kind, place)
        return self._routes[key]

    def _make(self, name: str, bytes_per_s: float) -> Channel:
        if name not in self._channels:
            capacity = bytes_per_s * self._left(name) if self._fracs else bytes_per_s
            self._channels[name] = self.flows.channel(name, capacity), bytes_per_s
        return self._channels[name][0]

    def _between(self, source: Place, target: Place) -> Route:
        hops = _Hops()
        for mine, other, share in meetings(source, target):
            same_node = source.cluster == target.cluster and mine.node == other.node
            if same_node and mine.accelerators == other.accelerators:
                continue
            scale_up = self.clusters[source.cluster][0].node.scale_up
            if same_node and scale_up is not None:
                self._within(hops, source.cluster, scale_up, (mine, other, share))
            else:
                self._across(hops, (source.cluster, mine), (target.cluster, other), share)
        return hops.route(max(source.num_accelerators, target.num_accelerators))

    def _within(self, hops: _Hops, cluster: str, link: Link, meeting: tuple[Share, Share, float]) -> None:
        mine, other, share = meeting
        reached = _frac(link, SCALE_UP_FRAC)
        each = link.bandwidth_bytes_per_s.value * reached
        hops.add(share, *self._ports(cluster, mine, "scale_up/out", _Reach(each, inf)))
        hops.add(share, *self._ports(cluster, other, "scale_up/in", _Reach(each, inf)))
        pairs = len(mine.accelerators) * len(other.accelerators)
        hops.cap_bytes_per_s = min(hops.cap_bytes_per_s, pairs * link.pair_bytes_per_s * reached / share)
        hops.latency_s = max(hops.latency_s, link.launch_s.value + link.latency_s.value)

    def _across(self, hops: _Hops, mine: tuple[str, Share], other: tuple[str, Share], share: float) -> None:
        (cluster, from_share), (to_cluster, to_share) = mine, other
        hops.add(share, *self._ports(cluster, from_share, "nic/out", self._nic(cluster)))
        hops.add(share, *reversed(self._ports(to_cluster, to_share, "nic/in", self._nic(to_cluster))))
        ends = [self.clusters[name] for name in dict.fromkeys((cluster, to_cluster))]
        for end, _ in ends:
            network = end.network
            leaf = network.nodes_per_leaf(end.count)
            if len(ends) == 2 or from_share.node // leaf != to_share.node // leaf:
                if network.share_frac() < 1.0:
                    total = end.count * self._nic(end.name).node * network.share_frac()
                    hops.add(share, self._make(f"{end.name}/spine", total))
                num_hops = network.num_hops(end.count)
            else:
                num_hops = 1
            nic = end.node.nic
            latency = nic.launch_s.value + nic.latency_s.value + num_hops * network.hop_latency_s
            hops.latency_s = max(hops.latency_s, SETUP_S + latency)
        sites = [site for _, site in ends]
        if sites[0].name != sites[-1].name:
            width = self.wan.bandwidth_bytes_per_s.value * _frac(self.wan, OTHER_FRAC)
            hops.add(share, self._make(f"wan/{sites[0].name}/{sites[-1].name}", width))
            hops.latency_s += self.wan.latency_s.value + fibre_latency_s(sites[0], sites[-1])

    def _nic(self, cluster: str) -> _Reach:
        """An accelerator alone may use a whole port, though it owns a part of one."""
        wired, _ = self.clusters[cluster]
        node, given = wired.node, wired.network.nic_bytes_per_s
        if given is not None:
            return _Reach(given * NIC_FRAC, node.count * given * NIC_FRAC)
        port = node.nic.bandwidth_bytes_per_s.value * _frac(node.nic, NIC_FRAC)
        whole = node.count * node.nics_per_accelerator * port
        return _Reach(min(whole, port * max(1.0, node.nics_per_accelerator)), whole)

    def _store(self, kind: str, place: Place) -> Route:
        source, target = kind.split(">")
        wired, _ = self.clusters[place.cluster]
        links = {"local_store": wired.local_store, "remote_store": wired.remote_store}
        ends = (source, "out"), (target, "in")
        hops = _Hops()
        total = place.num_accelerators
        for share in place.shares:
            part = len(share.accelerators) / total
            for what, way in ends:
                if what == "accelerators":
                    self._host(hops, place.cluster, share, "in" if way == "out" else "out", part)
                elif what in links:
                    self._drives(hops, f"{place.cluster}/{share.node}/{what}/{way}", links[what], part)
        for what, way in ends:
            if what == "remote_store" and wired.remote_store_total_bytes_per_s is not None:
                hops.add(
                    1.0, self._make(f"{place.cluster}/{what}/{way}", wired.remote_store_total_bytes_per_s)
                )
        return hops.route(total)

    def _drives(self, hops: _Hops, name: str, link: Link, share: float) -> None:
        figure = link.bandwidth_bytes_per_s
        if name.endswith("/in") and link.write_bandwidth_bytes_per_s is not None:
            figure = link.write_bandwidth_bytes_per_s
        hops.add(share, self._make(name, figure.value))
        hops.latency_s = max(hops.latency_s, link.launch_s.value + link.latency_s.value)

    def _host(self, hops: _Hops, cluster: str, share: Share, way: str, part: float) -> None:
        node = self.clusters[cluster][0].node
        link = host_link(node)
        if link is None:
            return
        each, latency_s = link
        hops.latency_s = max(hops.latency_s, latency_s)
        hops.add(part, *self._ports(cluster, share, f"host/{way}", _Reach(each, node.count * each)))

    def _ports(self, cluster: str, share: Share, what: str, reach: _Reach) -> Sequence[Channel]:
        """Return the channels of some accelerators' ports and of their whole node's, where that adds something."""
        found = []
        name = f"{cluster}/{share.node}/{what}"
        num = len(share.accelerators)
        if num < self.clusters[cluster][0].node.count or reach.node == inf:
            numbers = ",".join(map(str, share.accelerators))
            found.append(self._make(f"{name}/{numbers}", min(num * reach.accelerator, reach.node)))
        if reach.node < inf:
            found.append(self._make(name, reach.node))
        return found


def _under(name: str, what: str) -> bool:
    return name == what or name.startswith(what + "/")


def _frac(link: Link, usual: float) -> float:
    """Return the share of a link's figure that transfers reach; a measured figure is what they reached."""
    return 1.0 if link.bandwidth_bytes_per_s.evidence == "measured" else usual
