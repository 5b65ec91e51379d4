"""Replicas that come, go and die: runs equal steps, every request is accounted for, nothing is held twice."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import toy_fleet
import toy_tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.records import (
    CANCELLED,
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

TIMES = RequestRecords.FLOATS
COUNTS = ("cached_tokens", "replica", "num_preemptions", "num_retries", "lost_tokens", "status", "thinking_tokens",
          "answer_tokens")  # fmt: skip
PLAIN = ("one", "two", "pair", "tasks", "tasks_pair")
SHAPES = (*PLAIN, "mixed", "mixed_pair", "mixed_tasks", "mixed_tasks_pair")


def check(played: toy_tasks.Played) -> None:
    """Every request is over and counted once, every token that was made is somewhere, and nothing is left behind."""
    world, rows = played.world, played.rows
    issued = np.isfinite(rows["arrival_s"])
    over = np.isin(rows["status"], (FINISHED, REJECTED, CANCELLED, SHED, LOST))
    assert (rows["status"] != WAITING)[issued].all()
    assert over[issued].all()
    assert world.over()
    for front in world.fronts:
        assert not [*front.parking.left, *front.retries.left]
        assert front.handover is None or not front.handover.transits
        assert all((load.requests, load.tokens) == (0, 0) for load in front.loads)
        for replica in front.replicas:
            kv = replica.kv
            assert (kv.used, kv.num_decoding, replica.context) == (0, 0, 0)
            assert not any([replica.waiting, replica.running, replica.computed, replica.left, replica.remote])
            assert not any([replica.loading, replica.held, replica._cancelled, replica._orders])
    served = issued & (rows["status"] != REJECTED)
    runs = played.runs
    made = runs["batch"] * runs["num_steps"] + runs["num_first_tokens"]
    assert made.sum() == played.output[served].sum() + rows["lost_tokens"].sum()
    assert (played.output[rows["status"] == LOST] == 0).all()
    world.flows.check()
    for life in world.lifecycles:
        assert not {STARTING, DRAINING} & set(life.states), "a replica hangs"
    if world.lifecycles:
        _spans(played)


def _spans(played: toy_tasks.Played) -> None:
    """The states of a replica follow one another, and it works only while it is up or draining."""
    spans, runs = toy_fleet.spans_of(played), played.runs
    for replica in np.unique(np.concatenate([spans["replica"], runs["replica"].astype(int)])):
        mine = spans["replica"] == replica
        starts, ends = spans["start_s"][mine], spans["end_s"][mine]
        order = np.argsort(starts, kind="stable")
        assert (starts[order][1:] >= ends[order][:-1]).all()
        assert (ends >= starts).all()
        works = runs["replica"] == replica
        on = mine & (spans["state"] >= UP)
        inside = np.zeros(works.sum(), dtype=bool)
        for start, end in _joined(spans["start_s"][on], spans["end_s"][on]):
            slack = 1e-9 * (1 + end)
            inside |= (runs["start_s"][works] >= start - slack) & (runs["end_s"][works] <= end + slack)
        assert inside.all(), "it worked while it was off"


def _joined(starts: np.ndarray, ends: np.ndarray) -> list[tuple[float, float]]:
    joined: list[tuple[float, float]] = []
    for start, end in sorted(zip(starts.tolist(), ends.tolist(), strict=True)):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def assert_same(runs: toy_tasks.Played, steps: toy_tasks.Played) -> None:
    for name in TIMES:
        np.testing.assert_allclose(runs.rows[name], steps.rows[name], rtol=1e-9, atol=1e-12, err_msg=name)
    for name in COUNTS:
        np.testing.assert_array_equal(runs.rows[name], steps.rows[name], err_msg=name)
    ours, theirs = toy_fleet.spans_of(runs), toy_fleet.spans_of(steps)
    for name in ("replica", "state"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    np.testing.assert_allclose(ours["start_s"], theirs["start_s"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_runs_equal_steps_and_nobody_is_forgotten(shape: str) -> None:
    @settings(max_examples=60)
    @given(st.integers(0, 2**32 - 1))
    def run(seed: int) -> None:
        mix = toy_fleet.mix(seed, shape)
        runs = toy_fleet.Auditor().play(mix)
        check(runs)
        steps = toy_fleet.Auditor().play(mix, "stepwise")
        check(steps)
        assert_same(runs, steps)

    run()


def test_the_mixes_do_what_they_are_there_for() -> None:
    happened: Counter[str] = Counter()
    for seed in range(220):
        auditor = toy_fleet.Auditor()
        played = auditor.play(toy_fleet.mix(seed, PLAIN[seed % len(PLAIN)]))
        rows, states = played.rows, toy_fleet.spans_of(played)["state"]
        happened += Counter(
            {
                "deaths": auditor.deaths > 0,
                "deaths while weights load": auditor.deaths_while_starting > 0,
                "retries": bool(rows["num_retries"].any()),
                "lost": bool((rows["status"] == LOST).any()),
                "tokens in vain": bool(rows["lost_tokens"].any()),
                "cold starts": STARTING in states,
                "waits for accelerators": bool(
                    ((toy_fleet.spans_of(played)["end_s"] > toy_fleet.spans_of(played)["start_s"]) & (states == QUEUED)).any()
                ),
                "reclaim": auditor.reclaimed > 0,
                "renewed in place": auditor.renewed > 0,
                "weights in host memory": auditor.reused > 0,
                "cut off": 5 in states,
            }
        )  # fmt: skip
    assert len(happened) == 11, happened
    assert min(happened.values()) >= 5, happened
