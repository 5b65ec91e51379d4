"""The nodes of a Ray cluster in a stable order, and the network interface that holds an address."""

from __future__ import annotations

import os
import socket
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: ray sets it for the entrypoint of a submitted job (ray._private.runtime_env.constants, 2.60).
_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_SIOCGIFADDR = 0x8915  # linux/sockios.h


@dataclass(frozen=True, order=True)
class Node:
    """One node of the cluster. Its name is Ray's (`ray start --node-name`), which is its address if not given."""

    name: str
    node_id: str
    address: str
    num_gpus: int = 0

    @property
    def num_ranks(self) -> int:
        """Return one a GPU; on nodes without any, one."""
        return max(1, self.num_gpus)

    @property
    def rank_names(self) -> list[str]:
        """Return the names of its ranks: the node's, and ":k" of the k-th accelerator where it has several."""
        return [self.name] if self.num_ranks == 1 else [f"{self.name}:{k}" for k in range(self.num_ranks)]


def nodes_of(table: Sequence[Mapping[str, Any]]) -> list[Node]:
    """Return the live nodes that can measure, by name, from the answer of `ray.nodes()`.

    Where any node has a GPU only those that have one count: a head without is no part of the fleet. Nodes that
    share a name (several on one host) are told apart by "#k".
    """
    alive = [row for row in table if row.get("Alive", row.get("alive"))]
    found = []
    for row in alive:
        resources = row.get("Resources", {})
        if resources.get("CPU", 0) >= 1 or resources.get("GPU", 0) >= 1:
            address = str(row["NodeManagerAddress"])
            name = str(row.get("NodeName") or address)
            found.append(Node(name, str(row["NodeID"]), address, int(resources.get("GPU", 0))))
    if any(node.num_gpus for node in found):
        found = [node for node in found if node.num_gpus]
    found.sort(key=lambda node: (_numeric(node.name), node.node_id))
    count, seen = Counter(node.name for node in found), Counter[str]()
    named = []
    for node in found:
        seen[node.name] += 1
        name = f"{node.name}#{seen[node.name] - 1}" if count[node.name] > 1 else node.name
        named.append(Node(name, node.node_id, node.address, node.num_gpus))
    return named


def _numeric(name: str) -> tuple[tuple[int, int | str], ...]:
    """Order "node-2" before "node-10" and 10.0.0.9 before 10.0.0.10."""
    parts = "".join(c if c.isdigit() else f" {c} " for c in name).split()
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in parts)


def in_ray_job() -> bool:
    """Return whether this process is the entrypoint of a `ray job submit`."""
    return bool(os.environ.get(_JOB_VARIABLE))


def interface_of(address: str) -> str:
    """Return the network interface that holds an IPv4 or IPv6 address (Linux); raises OSError where none does."""
    for _, name in socket.if_nameindex():
        if address in (_ipv4_of(name), *_ipv6_of(name)):
            return name
    raise OSError(f"no network interface holds {address}; set GLOO_SOCKET_IFNAME")


def tcp_congestion_control() -> str:
    """Return what paces this host's TCP ("cubic", "bbr"), which collectives over TCP feel; empty where not told."""
    try:
        with open("/proc/sys/net/ipv4/tcp_congestion_control", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _ipv4_of(interface: str) -> str:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            answer = fcntl.ioctl(control.fileno(), _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:
            return ""
    return socket.inet_ntoa(answer[20:24])


def _ipv6_of(interface: str) -> list[str]:
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as file:
            lines = [line.split() for line in file]
    except OSError:
        return []
    return [
        socket.inet_ntop(socket.AF_INET6, bytes.fromhex(words[0]))
        for words in lines
        if words[-1] == interface
    ]
