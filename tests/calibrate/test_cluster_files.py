"""The cluster files beside the how-to: keys that Ray and KubeRay know, commands that this calibrator has."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from calibrate.cli import cli
from clustersim.scenario.schema import Cluster

HOW_TO = Path(__file__).parents[2] / "docs" / "howto"
PAGE = (HOW_TO / "calibrate-a-cluster.md").read_text()
#: Fields of KubeRay's types, ray.io/v1 (ray-operator/apis/ray/v1/rayjob_types.go and raycluster_types.go, v1.6), and of
#: Kubernetes' PodSpec and Container, as far as an example may want them.
KNOWN: Mapping[str, set[str]] = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "metadata": {"name"},
    "spec": {
        "activeDeadlineSeconds", "backoffLimit", "rayClusterSpec", "submitterPodTemplate", "metadata", "clusterSelector",
        "submitterConfig", "managedBy", "deletionStrategy", "entrypoint", "runtimeEnvYAML", "jobId", "submissionMode",
        "entrypointResources", "entrypointNumCpus", "entrypointNumGpus", "ttlSecondsAfterFinished",
        "shutdownAfterJobFinishes", "suspend",
    },
    "rayClusterSpec": {
        "headGroupSpec", "workerGroupSpecs", "rayVersion", "enableInTreeAutoscaling", "autoscalerOptions",
        "headServiceAnnotations", "suspend", "authOptions", "managedBy", "gcsFaultToleranceOptions",
    },
    "authOptions": {"mode", "secretName", "enableK8sTokenAuth"},
    "headGroupSpec": {"serviceType", "headService", "enableIngress", "rayStartParams", "template", "resources", "labels"},
    "workerGroupSpecs": {
        "groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts", "rayStartParams", "template",
        "scaleStrategy", "idleTimeoutSeconds", "suspend", "resources", "labels",
    },
    "rayStartParams": set(),
    "template": {"metadata", "spec"},
    "template.spec": {"containers", "volumes", "hostNetwork", "dnsPolicy", "nodeSelector", "tolerations", "affinity"},
    "containers": {"name", "image", "resources", "volumeMounts", "securityContext", "env", "command", "args", "ports"},
    "resources": {"requests", "limits"},
    "requests": {"cpu", "memory", "nvidia.com/gpu"},
    "limits": {"cpu", "memory", "nvidia.com/gpu"},
    "securityContext": {"capabilities"},
    "capabilities": {"add"},
    "volumeMounts": {"name", "mountPath"},
    "volumes": {"name", "emptyDir", "persistentVolumeClaim"},
    "emptyDir": {"medium", "sizeLimit"},
    "persistentVolumeClaim": {"claimName"},
}  # fmt: skip


def read(name: str) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(HOW_TO / name))


def unknown(data: Any, where: str = "") -> list[str]:
    """Keys that the type they lie in does not have."""
    if isinstance(data, list):
        return [found for each in data for found in unknown(each, where)]
    if not isinstance(data, dict):
        return []
    found = [f"{where}.{key}" for key in data if key not in KNOWN[where]]
    for key, value in data.items():
        inner = "template.spec" if (where, key) == ("template", "spec") else key
        if isinstance(value, dict | list) and inner in KNOWN:
            found += unknown(value, inner)
    return found


def accepted(words: list[str]) -> dict[str, Any]:
    """Options of a `python -m calibrate ...` command, as the command line takes them; raises click.UsageError."""
    assert words[:3] == ["python", "-m", "calibrate"]
    command = cli.get_command(click.Context(cli), words[3])
    assert command is not None
    return command.make_context(words[3], words[4:]).params


def test_the_job_for_kubernetes_has_fields_of_its_types() -> None:
    job = read("kuberay-job.yaml")
    assert not unknown(job)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
    for pods in (spec["rayClusterSpec"]["headGroupSpec"], group):
        pod = pods["template"]["spec"]
        volumes = {each["name"] for each in pod["volumes"]}
        for container in pod["containers"]:
            assert {each["name"] for each in container["volumeMounts"]} == volumes
            assert container["resources"]["requests"] == container["resources"]["limits"], (
                "a quiet node is its own"
            )
    given = accepted(shlex.split(spec["entrypoint"]))
    mounts = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert str(given["out"]) in {each["mountPath"] for each in mounts}, (
        "the driver, which writes, runs on the head"
    )


def test_the_cluster_over_ssh_has_keys_of_its_schema() -> None:
    found = importlib.util.find_spec("ray")
    if found is None or not found.submodule_search_locations:
        pytest.skip("ray is not installed")
    schema = json.loads(
        (Path(found.submodule_search_locations[0]) / "autoscaler/ray-schema.json").read_text()
    )
    cluster = read("ray-cluster.yaml")
    assert set(schema["required"]) <= set(cluster) <= set(schema["properties"])
    for section in ("provider", "auth"):
        assert set(cluster[section]) <= set(schema["properties"][section]["properties"])


def test_the_cluster_over_ssh_starts_its_workers_and_shares_a_token() -> None:
    cluster = read("ray-cluster.yaml")
    (head,), (worker,) = cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head, "else nothing starts the workers"
    assert "--address=$RAY_HEAD_IP:6379" in worker
    assert "~/.ray/auth_token" in cluster["file_mounts"], (
        "variables of the caller's shell do not reach the nodes"
    )
    assert all("RAY_AUTH_MODE=token" in command for command in (head, worker))


def test_the_commands_of_the_how_to_are_taken() -> None:
    commands = re.findall(r"-- (python -m calibrate .*)", PAGE)
    assert commands
    for command in commands:
        assert accepted(shlex.split(command))["address"] == "auto"


def test_the_node_of_the_how_to_is_a_scenario_s() -> None:
    (block,) = (
        text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if text.startswith("fleet:")
    )
    cluster = Cluster.model_validate(YAML(typ="safe").load(block)["fleet"][0]["clusters"][0])
    path = cluster.network.path(cluster.node, cluster.count)
    assert (path.bandwidth_bytes_per_s, path.evidence) == (23.911e6, "measured")
