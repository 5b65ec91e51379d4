"""Network namespaces joined by links of known rate and delay, Ray nodes in them, and a relay that delays packets.

Nothing outside the namespaces made here is touched, and only processes started here are ended, by their ids.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import secrets
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

#: Bytes of TCP payload over bytes that a shaper of Ethernet frames counts: MTU 1500 less 40 and 12 of headers, plus 14.
GOODPUT = 1448 / 1514
BURST_BYTES = 256 * 1024
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def why_not() -> str:
    """Return why these tests cannot run here; empty if they can. They take minutes and time things: CLUSTERSIM_NETNS=1."""
    if os.environ.get("CLUSTERSIM_NETNS") != "1":
        return "CLUSTERSIM_NETNS=1 runs it: minutes, as root, on a machine that does nothing else"
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip") or not shutil.which("tc"):
        return "ip and tc are missing (iproute2)"
    for module in ("ray", "torch"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed"
    name = f"cs{os.getpid()}t"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return "network namespaces cannot be made here"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return ""


def sh(*words: str) -> str:
    """Run a command; raises CalledProcessError with its words."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr}")
    return done.stdout


class Net:
    """Two or more namespaces: two by a veth pair, more by a bridge; addresses 10.77.S.1, .2, ..."""

    def __init__(self, count: int = 2, mbit: float = 200.0) -> None:
        tag = f"{os.getpid() % 100000:05d}"
        self.names = [f"cs{tag}{letter}" for letter in "abcd"[:count]]
        subnet = os.getpid() % 200 + 20
        self.addresses = [f"10.77.{subnet}.{k + 1}" for k in range(count)]
        self.switch = f"cs{tag}s"
        self.shaped: list[tuple[str, str]] = []
        try:
            self._build(count, mbit)
        except BaseException:
            self.close()
            raise

    def _build(self, count: int, mbit: float) -> None:
        for name in self.names:
            sh("ip", "netns", "add", name)
            sh("ip", "-n", name, "link", "set", "lo", "up")
        if count == 2:
            one, other = self.names
            sh(
                "ip",
                "link",
                "add",
                "eth0",
                "netns",
                one,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                other,
            )
            self.shaped = [(name, "eth0") for name in self.names]
        else:
            sh("ip", "netns", "add", self.switch)
            sh("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
            sh("ip", "-n", self.switch, "link", "set", "br0", "up")
            for k, name in enumerate(self.names):
                sh(
                    "ip",
                    "link",
                    "add",
                    "eth0",
                    "netns",
                    name,
                    "type",
                    "veth",
                    "peer",
                    "name",
                    f"p{k}",
                    "netns",
                    self.switch,
                )
                sh("ip", "-n", self.switch, "link", "set", f"p{k}", "master", "br0", "up")
            self.shaped = [(name, "eth0") for name in self.names]
        for name, address in zip(self.names, self.addresses, strict=True):
            sh("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            sh("ip", "-n", name, "link", "set", "eth0", "up")
        self.shape(mbit)

    def shape(self, mbit: float) -> None:
        """Let each end send `mbit` Mb/s of Ethernet frames, in bursts of BURST_BYTES."""
        for name, device in self.shaped:
            sh(
                "tc", "-n", name, "qdisc", "replace", "dev", device, "root", "tbf", "rate", f"{mbit}mbit",
                "burst", str(BURST_BYTES), "latency", "100ms",
            )  # fmt: skip

    def pids(self, name: str) -> list[int]:
        """Return the processes inside a namespace, all of which were started here."""
        return [int(pid) for pid in sh("ip", "netns", "pids", name).split()]

    def running(self, name: str, words: str) -> list[int]:
        """Return the processes inside a namespace whose command line begins with `words`."""
        found = []
        for pid in self.pids(name):
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found += [pid] if line.startswith(words) else []
        return found

    def kill(self, name: str) -> list[int]:
        """Kill every process of one namespace by its id; returns the ids."""
        killed: list[int] = []
        for _ in range(20):
            found = [pid for pid in self.pids(name) if pid != os.getpid()]
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            killed += found
            if not found:
                break
            time.sleep(0.1)
        return sorted(set(killed))

    def close(self) -> None:
        """End what runs inside and remove the namespaces."""
        for name in [*self.names, self.switch]:
            if os.path.exists(f"/run/netns/{name}"):
                self.kill(name)
                subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


class RayNodes:
    """A Ray node in each namespace; the first is the head. Authentication is by a token of this cluster alone."""

    def __init__(self, net: Net, folder: Path) -> None:
        self.net, self.folder = net, folder
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        self.env |= {
            "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        self.head = net.addresses[0]
        for k in range(len(net.names)):
            self.start(k)

    def start(self, k: int) -> None:
        """Start the k-th node and wait until it answers."""
        common = [
            "--node-ip-address", self.net.addresses[k], "--node-name", "abcd"[k], "--num-cpus", "2",
            "--object-store-memory", "100000000", "--disable-usage-stats",
        ]  # fmt: skip
        if k == 0:
            place = [
                "--head",
                "--port",
                "6399",
                "--temp-dir",
                str(self.folder),
                "--dashboard-host",
                self.head,
            ]
            place += ["--dashboard-port", "8266", "--include-dashboard", "true"]
        else:
            place = ["--address", f"{self.head}:6399"]
        done = self.inside(k, "ray", "start", *place, *common, timeout=120)
        if done.returncode:
            raise RuntimeError(f"ray start: {done.stdout}\n{done.stderr}")

    def inside(self, k: int, *words: str, timeout: float = 170) -> subprocess.CompletedProcess[str]:
        """Run a command in the k-th namespace."""
        command = ["ip", "netns", "exec", self.net.names[k], *words]
        return subprocess.run(
            command, env=self.env, capture_output=True, text=True, check=False, timeout=timeout
        )

    def begin(self, k: int, *words: str) -> subprocess.Popen[str]:
        """Start a command in the k-th namespace, its words in one stream."""
        command = ["ip", "netns", "exec", self.net.names[k], *words]
        return subprocess.Popen(
            command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def job(self, *words: str, timeout: float = 170) -> subprocess.CompletedProcess[str]:
        """Submit a Ray job and wait for its end."""
        submit = ("ray", "job", "submit", "--address", f"http://{self.head}:8266", "--")
        return self.inside(0, *submit, *words, timeout=timeout)


@contextlib.contextmanager
def relay(net: Net, delay_s: float, bytes_per_s: float) -> Iterator[str]:
    """Join the first two namespaces by a second link, TUN devices in a relay that delays; yields its interface's name.

    Addresses 10.78.S.1 and .2, MTU 9000. The relay holds each packet for `delay_s` and its own time at the rate.
    """
    subnet = net.addresses[0].split(".")[2]
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _relay(net.names[:2], subnet, delay_s, bytes_per_s, told)
        finally:
            os._exit(1)
    os.close(told)
    try:
        if not select.select([ready], [], [], 15)[0] or os.read(ready, 1) != b"1":
            raise RuntimeError("the relay did not start")
        yield "tun0"
    finally:
        os.close(ready)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _relay(names: Sequence[str], subnet: str, delay_s: float, bytes_per_s: float, told: int) -> None:
    descriptors = []
    for k, name in enumerate(names):
        descriptor, device = (
            os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK),
            f"cst{os.getpid() % 100000}{k}",
        )
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", device.encode(), _IFF_TUN | _IFF_NO_PI))
        sh("ip", "link", "set", device, "netns", name)
        sh("ip", "-n", name, "link", "set", device, "name", "tun0")
        sh("ip", "-n", name, "link", "set", "tun0", "mtu", "9000", "txqueuelen", "5000", "up")
        sh("ip", "-n", name, "addr", "add", f"10.78.{subnet}.{k + 1}/24", "dev", "tun0")
        descriptors.append(descriptor)
    os.write(told, b"1")
    with contextlib.suppress(OSError):
        os.nice(-10)
    queues: list[deque[tuple[float, bytes]]] = [deque(), deque()]
    free = [0.0, 0.0]
    while True:
        now = time.monotonic()
        waits = [queue[0][0] - now for queue in queues if queue]
        found, _, _ = select.select(descriptors, [], [], max(0.0, min(waits, default=1.0)))
        for descriptor in found:
            side, now = descriptors.index(descriptor), time.monotonic()
            for _ in range(64):
                try:
                    packet = os.read(descriptor, 65536)
                except BlockingIOError:
                    break
                free[side] = max(free[side], now) + len(packet) / bytes_per_s
                queues[side].append((free[side] + delay_s, packet))
        now = time.monotonic()
        for side, queue in enumerate(queues):
            while queue and queue[0][0] <= now:
                with contextlib.suppress(OSError):
                    os.write(descriptors[1 - side], queue.popleft()[1])
