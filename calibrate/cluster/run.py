"""Measure a Ray cluster: from `python -m calibrate run --address ...` or a submitted job to cluster.yaml.

No torch is imported here: what may crash or hang is in the ranks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from calibrate.benches import PlanName
from calibrate.cluster.collectives import OPS
from calibrate.cluster.driver import Driver
from calibrate.cluster.nodes import in_ray_job, nodes_of
from calibrate.cluster.result import ClusterResult
from calibrate.runner import LEAST_TIMEOUT_S
from calibrate.store import Store
from clustersim.errors import InputError


def main(
    address: str = "auto",
    plan: PlanName = "default",
    out: Path | str = "profiles",
    *,
    name: str = "cluster",
    ops: Sequence[str] = ("p2p", *OPS),
    sweep: bool = True,
    interface: str | None = None,
    allow_contended: bool = False,
    resume: bool = True,
    least_timeout_s: float = LEAST_TIMEOUT_S,
    quiet: bool = False,
) -> ClusterResult:
    """Measure the Ray cluster at `address` into `out`/`name`-`plan`/ and return what was found; raises InputError.

    Inside a `ray job` the job's own cluster is measured. `interface` names the network interface of the data
    traffic on every node; by default the one that holds Ray's node address. Authentication is Ray's own
    (RAY_AUTH_MODE, RAY_AUTH_TOKEN in the environment); nothing of it is kept.
    """
    try:
        import ray
    except ImportError:
        raise InputError(
            "measuring a cluster needs Ray: pip install 'ray[default]' torch on every node"
        ) from None
    try:
        ray.init("auto" if in_ray_job() else address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        raise InputError(f"no Ray cluster at {address}: {str(error).splitlines()[0]}") from None
    try:
        nodes = nodes_of(ray.nodes())
        if not nodes:
            raise InputError("the Ray cluster has no node with a CPU or GPU")
        store = _store(Path(out) / f"{name}-{plan}", resume)
        env = dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), interface) if interface else {}
        store.add_session(
            {"started": datetime.now(UTC).isoformat(timespec="seconds"), "plan": plan, "ray": ray.__version__,
             "nodes": [node.name for node in nodes], "interface": interface or ""}
        )  # fmt: skip
        driver = Driver(
            nodes,
            plan,
            store,
            ops,
            sweep,
            env,
            allow_contended,
            _silent if quiet else _say,
            least_timeout_s=least_timeout_s,
        )
        result = driver.run()
        result.write()
        store.write_manifest()
        return result
    finally:
        ray.shutdown()


def _store(folder: Path, resume: bool) -> Store:
    """Return the store of a run; raises InputError where its folder cannot be written."""
    try:
        if not resume and folder.exists():
            os.rename(folder, folder.with_name(f"{folder.name}.left-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"))
        return Store(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}") from None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _silent(text: str) -> None:
    """Say nothing."""
