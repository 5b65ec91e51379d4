"""What is wrong with who turns requests away where."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from clustersim.scenario.schema import Scenario
from clustersim.yaml_file import Key


def admission_problems(scenario: Scenario) -> Iterator[tuple[Key, str]]:
    """Yield admission policies that could do nothing, or take back what another deployment has begun."""
    prefills = {decode.prefill_by: decode.name for decode in scenario.deployments}
    for index, deployment in enumerate(scenario.deployments):
        key: Key = ("deployments", index, "admission")
        admission = deployment.admission
        if admission.kind == "accept_all":
            continue
        if deployment.name in prefills:
            yield (
                key,
                f'requests come in by "{prefills[deployment.name]}", for which "{deployment.name}" prefills: '
                "give that one the admission policy",
            )
        elif deployment.prefill_by is not None and admission.patience_s(1.0) < inf:
            yield (
                key,
                f'requests that wait at "{deployment.prefill_by}" for their prefill cannot be given up; '
                "use queue_limit, or slo_aware without give_up_late",
            )
