"""Plain words where a list or a mapping is wanted, and for a deployment that would prefill for itself."""

from __future__ import annotations

import pytest
from refusing import GOOD

from clustersim.errors import InputError
from clustersim.scenario.load import parse_with_places
from clustersim.scenario.plan import plan
from clustersim.yaml_file import parse_yaml

SERVE = "    on: pool\n"
TIER = "{where: host_memory, capacity: 1 TB}"


def said(new: str) -> str:
    """Return what is said of the good scenario with a line more in its deployment, or after it."""
    with pytest.raises(InputError) as caught:
        plan(*parse_with_places(parse_yaml(GOOD.replace(SERVE, f"{SERVE}{new}\n"), "mine.yaml")))
    return str(caught.value)


@pytest.mark.parametrize(
    ("new", "what"),
    [
        ("    kv_transfer:", "deployments.0.kv_transfer: is empty; give its settings: {when: at_the_end}"),
        (f"    kv_tiers: {TIER}", f"deployments.0.kv_tiers: is a mapping; give a list of tiers: [{TIER}]"),
        ("    kv_tiers: host_memory", f"deployments.0.kv_tiers: is host_memory; give a list of tiers: [{TIER}]"),
        ("    kv_tiers: [host_memory]", f"deployments.0.kv_tiers.0: is host_memory; give its settings: {TIER}"),
        ("    retries: 2", "deployments.0.retries: is 2; give its settings: {max_retries: 3}"),
        ("    startup:", "deployments.0.startup: is empty; give its settings: {weights_from: local_store}"),
        ("    parallelism: 2", "deployments.0.parallelism: is 2; give its settings: {tp: 2}"),
        ("failures: {kind: node}", "failures: is a mapping; give a list of failures: [{kind: node, mtbf: 264 d}]"),
        ("updates: {deployment: serve}", "updates: is a mapping; give a list of updates: [{deployment: NAME, at: 1 min}]"),
        ("updates: [serve]", "updates.0: is serve; give its settings: {deployment: NAME, at: 1 min}"),
    ],
)  # fmt: skip
def test_what_is_wanted_is_shown(new: str, what: str) -> None:
    assert said(new) == f"mine.yaml:11: {what}, or leave it out"


def test_the_examples_in_the_messages_are_right() -> None:
    good = f"    kv_transfer: {{when: at_the_end}}\n    kv_tiers: [{TIER}]\n    retries: {{max_retries: 3}}\n"
    good += "    startup: {weights_from: local_store}\n    parallelism: {tp: 2}\n"
    good += "failures: [{kind: node, mtbf: 264 d}]\nupdates: [{deployment: serve, at: 1 min}]\n"
    plan(*parse_with_places(parse_yaml(GOOD.replace(SERVE, SERVE + good))))


def test_nobody_prefills_for_itself() -> None:
    what = '"serve" cannot prefill for itself over a network; leave prefill_by out'
    assert said("    prefill_by: serve") == f"mine.yaml:11: deployments.0.prefill_by: {what}"
    other = "    prefill_by: serve\n  - name: other\n    model: llama-3.1-8b\n    on: pool"
    assert f"{what}, or name another: other" in said(other)


def test_one_alone_has_nobody_to_name() -> None:
    assert said("    prefill_by: prompts").endswith(
        'no deployment "prompts", nor any other than "serve"; leave prefill_by out'
    )
