"""Serving by every mechanism at once, in random combinations: runs equal steps, and nothing is lost or made up.

More fleets than CI plays: `SERVING_DRAWS=5000 pytest tests/laws/test_serving_laws.py`, from `SERVING_FIRST=100000` on.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
import toy_ledger
import toy_serving
from toy_ledger import Played

from clustersim.kinds import kinds
from clustersim.records import (
    CANCELLED,
    CUT_OFF,
    DRAINING,
    FINISHED,
    LOST,
    QUEUED,
    REJECTED,
    SHED,
    STARTING,
    UP,
    WAITING,
    RequestRecords,
)
from clustersim.results.result import summarise
from clustersim.scenario.plan import DeploymentPlan
from clustersim.serving.replica import Replica

#: Fleets, and how many tests they are dealt to.
DRAWS, PARTS = int(os.environ.get("SERVING_DRAWS", "400")), 8
FIRST = int(os.environ.get("SERVING_FIRST", "0"))
TIMES = RequestRecords.FLOATS
COUNTS = (
    "input_tokens", "thinking_tokens", "answer_tokens", "cached_tokens", "deployment", "replica", "workload", "tenant",
    "adapter", "prefix", "task", "role", "num_preemptions", "num_retries", "lost_tokens", "adapter_loads", "status",
)  # fmt: skip


def assert_same(runs: Played, steps: Played) -> None:
    """Whatever is written down in either mode is the same, times to 1e-9."""
    tables = {"rows": (TIMES, COUNTS), "tasks": (("first_output_s", "finish_s", "correct"), ("status",)),
              "transfers": (("start_s", "end_s", "bytes"), ("request", "source", "target")),
              "loads": (("start_s", "end_s", "bytes"), ("request", "deployment", "tier", "tokens", "used_tokens")),
              "spans": (("start_s", "end_s"), ("replica", "state"))}  # fmt: skip
    for table, (floats, counts) in tables.items():
        ours, theirs = getattr(runs, table), getattr(steps, table)
        for name in counts:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=f"{table} {name}")
        for name in floats:
            np.testing.assert_allclose(
                ours[name], theirs[name], rtol=1e-9, atol=1e-12, err_msg=f"{table} {name}"
            )


def assert_ended(played: Played) -> None:
    """Every request and task is over, in one state, and its row says what goes with that state."""
    world, rows = played.world, played.rows
    issued = np.isfinite(rows["arrival_s"])
    status = rows["status"][issued]
    assert np.isin(status, (FINISHED, REJECTED, CANCELLED, SHED, LOST)).all()
    assert (rows["status"][~issued] == WAITING).all()
    assert (played.tasks["status"][np.isfinite(played.tasks["arrival_s"])] != 0).all()
    sent = world.num_sent + sum(loop.issued for loop in world.users.values())
    assert world.finished == sent
    row = {name: column[issued] for name, column in rows.items()}
    output = played.output[issued]
    finished, rejected = status == FINISHED, status == REJECTED
    for name in TIMES[:-1]:
        assert np.isfinite(row[name][finished]).all(), name
    assert (np.isfinite(row["finish_s"]) == ~rejected).all()
    assert np.isnan(row["scheduled_s"][rejected | (status == SHED)]).all()
    assert (output[(status == LOST) | (status == SHED)] == 0).all()
    assert (output[finished] > 0).all()
    most = np.array([front.plan.deployment.retries.max_retries for front in world.fronts])[row["deployment"]]
    assert (row["num_retries"] <= most).all()
    assert (row["num_retries"][status == LOST] == most[status == LOST]).all()
    assert (row["cached_tokens"] < np.maximum(1, row["input_tokens"])).all()
    assert (row["cached_tokens"][np.isnan(row["scheduled_s"])] == 0).all()


def assert_tokens(played: Played) -> None:
    """Tokens made are those written down, request by request, those in vain included; prompts are computed once."""
    rows, runs, ledger = played.rows, played.runs, played.ledger
    refused = (rows["status"] == REJECTED) | (rows["status"] == WAITING)
    for request in np.flatnonzero(~refused):
        expected = played.output[request] + rows["lost_tokens"][request]
        assert ledger.made[int(request)] == expected, f"request {request}"
    assert not any(ledger.made[int(request)] for request in np.flatnonzero(refused))
    made = runs["batch"] * runs["num_steps"] + runs["num_first_tokens"]
    assert made.sum() == ledger.made.total()
    at_once = (rows["status"] == FINISHED) & (rows["num_preemptions"] == 0) & (rows["num_retries"] == 0)
    for request in np.flatnonzero(at_once):
        computed = rows["input_tokens"][request] - rows["cached_tokens"][request]
        assert ledger.prefilled[int(request)] == computed, f"request {request}"


def assert_causal(played: Played) -> None:
    """Causes come before effects: of a request, a task, a transfer; a replica has one run at a time, while it is on."""
    rows, world = played.rows, played.world
    for before, after in pairwise(TIMES):
        known = np.isfinite(rows[before]) & np.isfinite(rows[after])
        assert (rows[before][known] <= rows[after][known]).all(), (before, after)
    mine = rows["task"] >= 0
    assert (rows["arrival_s"][mine] >= played.tasks["arrival_s"][rows["task"][mine]] * (1 - 1e-12)).all()
    used = mine & (rows["role"] == 1)
    assert (rows["finish_s"][used] <= played.tasks["finish_s"][rows["task"][used]]).all()
    assert (rows["status"][used] == FINISHED).all()
    for moved in (played.transfers, played.loads):
        come = np.isfinite(moved["end_s"])
        request = moved["request"].astype(int)
        assert (moved["start_s"] >= rows["entered_s"][request]).all()
        assert (moved["end_s"][come] >= moved["start_s"][come]).all()
        finished = come & (rows["status"][request] == FINISHED)
        assert (moved["end_s"][finished] <= rows["finish_s"][request[finished]]).all()
    first = rows["num_retries"] == 0
    moved, loads = played.transfers, played.loads
    mine = first[moved["request"]]
    assert (moved["start_s"][mine] >= rows["scheduled_s"][moved["request"][mine]]).all(), (
        "sent before it was computed"
    )
    mine = first[loads["request"]] & (loads["used_tokens"] > 0)
    assert (loads["end_s"][mine] <= rows["scheduled_s"][loads["request"][mine]]).all(), (
        "used before it was there"
    )
    for replica in np.unique(played.runs["replica"]):
        own = played.runs["replica"] == replica
        starts, ends = played.runs["start_s"][own], played.runs["end_s"][own]
        assert (starts[1:] >= ends[:-1]).all(), "two runs at once"
        if world.lifecycles:
            on = (played.spans["replica"] == replica) & (played.spans["state"] >= UP)
            inside = np.zeros(len(starts), dtype=bool)
            for start, end in _joined(played, on):
                slack = 1e-9 * (1 + end)
                inside |= (starts >= start - slack) & (ends <= end + slack)
            assert inside.all(), "it worked while it was off"


def _joined(played: Played, which: np.ndarray) -> list[tuple[float, float]]:
    """Return spans that follow one another as one."""
    ends = np.nan_to_num(played.spans["end_s"][which], nan=np.inf).tolist()
    joined: list[tuple[float, float]] = []
    for start, end in sorted(zip(played.spans["start_s"][which].tolist(), ends, strict=True)):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def assert_bytes(played: Played) -> None:
    """Both accounts of every channel agree; what arrived is the KV of prompts; nothing is on its way any more."""
    world, rows, moved = played.world, played.rows, played.transfers
    world.flows.check()
    assert not any(channel.flows for channel in world.flows.channels)
    assert {flow.state for flow in played.ledger.flows} <= {"done", "cancelled", "failed"}
    request, come = moved["request"].astype(int), np.isfinite(moved["end_s"])
    kv = toy_serving.KV_BYTES
    prompt = rows["input_tokens"][request] * kv
    fresh = rows["num_retries"][request] == 0
    np.testing.assert_allclose(moved["bytes"][come & fresh], prompt[come & fresh])
    goes_on = (rows["input_tokens"] + played.output)[request] * kv
    assert (moved["bytes"][come] >= prompt[come] - 1).all()
    assert (
        moved["bytes"][come & (rows["status"][request] == FINISHED)]
        < goes_on[come & (rows["status"][request] == FINISHED)]
    ).all()
    first = [front.first_replica for front in world.fronts]
    for front in world.fronts:
        if front.handover is None:
            continue
        mine = rows["deployment"][request] == front.plan.index
        source, target = front.handover.prefill.first_replica, front.first_replica
        assert np.isin(moved["source"][mine], source + np.arange(len(front.handover.prefill.replicas))).all()
        assert np.isin(moved["target"][mine], target + np.arange(len(front.replicas))).all()
        several = (
            (rows["status"] == FINISHED) & (rows["deployment"] == front.plan.index) & (played.output > 1)
        )
        several &= rows["num_retries"] == 0  # the last token may be all that was left to make
        assert set(np.flatnonzero(several)) <= set(request[come])
    assert len(first) == len(world.fronts)
    loads = played.loads
    np.testing.assert_allclose(loads["bytes"], loads["tokens"] * kv)
    assert (loads["used_tokens"] <= loads["tokens"]).all()
    assert (loads["used_tokens"] >= 0).all()
    assert (loads["used_tokens"][np.isnan(loads["end_s"])] == 0).all()
    # Every byte that was sent for KV between replicas is one of a flow that arrived, or of one that was cancelled.
    flows = sum(flow.sent_bytes(world.env.now) for flow in played.ledger.flows if flow.state == "done")
    assert flows >= moved["bytes"][come].sum() * (1 - 1e-9)


def assert_accelerators(played: Played) -> None:
    """Replicas that hold accelerators never hold more than their cluster has."""
    world = played.world
    if not world.lifecycles:
        return
    spans = played.spans
    for fleet in world.scenario.fleet:
        for cluster in fleet.clusters:
            changes = []
            for life in world.lifecycles:
                if life.cluster == cluster.name:
                    first = life.front.first_replica
                    mine = (spans["replica"] >= first) & (spans["replica"] < first + len(life.states))
                    mine &= spans["state"] >= STARTING
                    changes += [(at, life.num_accelerators) for at in spans["start_s"][mine].tolist()]
                    changes += [
                        (at, -life.num_accelerators) for at in spans["end_s"][mine].tolist() if at == at
                    ]
            held = np.cumsum([change for _, change in sorted(changes)])
            assert not len(held) or held.max() <= cluster.num_accelerators


def assert_empty(replica: Replica) -> None:
    """A replica that has nothing to do has nothing left but idle prefixes."""
    kv, sharing = replica.kv, replica.sharing
    assert (kv.used, kv.num_decoding, replica.context) == (0, 0, 0)
    assert kv.idle == sum(prefix.blocks for prefix in kv._idle)
    assert all(prefix.resident and not prefix.users and prefix.builder is None for prefix in kv._idle)
    assert all(prefix.parent is None or prefix.parent in kv._idle for prefix in kv._idle)
    assert not any([replica.waiting, replica.running, replica.computed, replica.left, replica.remote])
    assert not any([replica.loading, replica.held, replica._offsets, replica._cancelled, replica._orders])
    assert not any([sharing.wants, sharing.keeps, sharing.staged, sharing._rests, sharing._missing])
    assert replica.adapters is None or not replica.adapters._users


def assert_nothing_left(played: Played) -> None:
    """No request waits anywhere, and no load is counted."""
    world = played.world
    assert not world.calls
    for replica in played.replicas:
        assert_empty(replica)
    for front in world.fronts:
        assert not any([front.parking.left, front.retries.left])
        assert front.handover is None or not any([front.handover.transits])
        assert front.offload is None or not front.offload.loading
        assert all((load.requests, load.tokens) == (0, 0) for load in front.loads)


def laws(played: Played) -> None:
    """Assert every law of one run."""
    assert_ended(played)
    assert_tokens(played)
    assert_causal(played)
    assert_bytes(played)
    assert_accelerators(played)
    assert_nothing_left(played)


@pytest.mark.parametrize("part", range(PARTS))
def test_every_law_for_every_mechanism(part: int) -> None:
    for seed in range(FIRST + part, FIRST + DRAWS, PARTS):
        try:
            draw = toy_serving.draw(seed)
            runs, steps = toy_ledger.play(draw), toy_ledger.play(draw, "stepwise")
            laws(runs)
            laws(steps)
            assert_same(runs, steps)
        except Exception as error:
            error.add_note(f"toy_serving.draw({seed})")
            raise


def happened(played: Played) -> Counter[str]:
    """Return which mechanisms acted in a run."""
    rows, runs, spans, loads, world = played.rows, played.runs, played.spans, played.loads, played.world
    scenario = world.scenario
    lasting = ~(spans["end_s"] <= spans["start_s"])
    acted = {
        "preempted": rows["num_preemptions"].any(),
        "evicted": any(replica.kv.evicted for replica in played.replicas),
        "cached": rows["cached_tokens"].any(),
        "shed": (rows["status"] == SHED).any(),
        "rejected": (rows["status"] == REJECTED).any(),
        "cancelled": (rows["status"] == CANCELLED).any(),
        "lost": (rows["status"] == LOST).any(),
        "retried": rows["num_retries"].any(),
        "made in vain": rows["lost_tokens"].any(),
        "adapter loaded": rows["adapter_loads"].any(),
        "transfer": np.isfinite(played.transfers["end_s"]).any(),
        "transfer given up": np.isnan(played.transfers["end_s"]).any(),
        "loaded from a tier": (loads["used_tokens"] > 0).any(),
        "loaded in vain": (np.isfinite(loads["end_s"]) & (loads["used_tokens"] < loads["tokens"])).any(),
        "stalled": runs["num_stalled"].any(),
        "cold start": (lasting & (spans["state"] == STARTING)).any(),
        "waits for accelerators": (lasting & (spans["state"] == QUEUED)).any(),
        "drains": (lasting & (spans["state"] == DRAINING)).any(),
        "cut off": (lasting & (spans["state"] == CUT_OFF)).any(),
        "speculation": any(each.speculation for each in scenario.deployments),
        "tasks": len(played.tasks["status"]) > 0,
        "priorities": len(set(rows["priority"])) > 1,
        "data parallel": any(each.parallelism.attention_dp > 1 for each in scenario.deployments),
        "gateway": any(
            len(set(rows["deployment"][rows["workload"] == index])) > 1
            for index, each in enumerate(scenario.workloads) if each.tasks is None
        ),
        "two sites": len(scenario.fleet) > 1,
        "several tiers": len(set(loads["tier"])) > 1,
    }  # fmt: skip
    return Counter(name for name, did in (*acted.items(), *played.ledger.happened.items()) if did)


#: Mechanisms, with the share of fleets in which each must act: so that no law holds for want of what it is about.
OFTEN, AT_TIMES, SELDOM = 0.15, 0.04, 0.005
LEAST = {
    "preempted": OFTEN, "evicted": OFTEN, "cached": OFTEN, "shed": AT_TIMES, "rejected": AT_TIMES,
    "cancelled": AT_TIMES, "lost": AT_TIMES, "retried": OFTEN, "made in vain": AT_TIMES, "adapter loaded": OFTEN,
    "passed over": AT_TIMES, "transfer": OFTEN, "transfer given up": SELDOM, "loaded from a tier": AT_TIMES,
    "loaded in vain": SELDOM, "several tiers": SELDOM, "stalled": AT_TIMES, "no room in KV": OFTEN,
    "cold start": OFTEN, "waits for accelerators": OFTEN, "drains": AT_TIMES, "cut off": AT_TIMES, "reclaim": SELDOM,
    "renewed in place": OFTEN, "weights in host memory": AT_TIMES, "death": OFTEN,
    "death while weights load": AT_TIMES, "death while draining": SELDOM,
    "prefilling side dies with KV in flight": SELDOM, "decoding side dies with KV in flight": SELDOM,
    "parked": OFTEN, "routed again": OFTEN, "goes on from what was streamed": AT_TIMES, "speculation": OFTEN,
    "tasks": OFTEN, "priorities": OFTEN, "data parallel": OFTEN, "gateway": AT_TIMES, "two sites": OFTEN,
}  # fmt: skip


def test_the_fleets_do_what_they_are_there_for() -> None:
    num = 250
    every = [toy_ledger.play(toy_serving.draw(seed)) for seed in range(num)]
    acted = sum((happened(played) for played in every), start=Counter())
    assert {name: acted[name] / num for name, least in LEAST.items() if acted[name] < least * num} == {}
    assert sum(len(played.output) for played in every) > 20 * num


def test_the_fleets_have_every_kind_of_every_policy() -> None:
    seen: dict[str, set[str]] = defaultdict(set)
    for seed in range(400):
        scenario = toy_serving.draw(seed).scenario
        seen["failure"] |= {each.kind for each in scenario.failures}
        seen["network"] |= {each.network.kind for fleet in scenario.fleet for each in fleet.clusters}
        for name in ("scheduler", "router", "admission", "autoscaler", "speculation"):
            parts = [getattr(each, name) for each in scenario.deployments]
            seen[name] |= {part.kind for part in parts if part is not None}
        for each in scenario.workloads:
            seen["gateway"] |= {each.gateway.kind} if each.gateway else set()
            seen["prefix"] |= {each.prefix.kind} if each.prefix else set()
            seen["strategy"] |= {each.tasks.strategy.kind} if each.tasks else set()
    seen["router"] &= seen.pop("gateway")
    assert seen == {name: set(kinds(name)) for name in seen}


def test_results_can_be_had_of_every_fleet() -> None:
    """The records of any run are consistent enough for its result, in which nobody's tokens are missing."""
    for seed in range(30):
        played = toy_ledger.play(toy_serving.draw(seed))
        world = played.world
        plans = [DeploymentPlan(each.index, each.deployment, each.cluster, each.site) for each in world.plans]
        stored = {
            each.plan.index: each.offload.stored_bytes for each in world.fronts if each.offload is not None
        }
        result = summarise(
            world.scenario, world.seed, plans, world.records, world.tasks, played.runs, world.first_replica, 0.0,
            transfers=world.transfers, spans=world.spans, kv_loads=world.kv_loads, kv_stored=stored,
        )  # fmt: skip
        assert len(result.requests) == np.isfinite(played.rows["arrival_s"]).sum()
