"""Tasks where the answer is known beforehand: an idle fleet, an infinitely fast one, forks of one prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import toy
import toy_tasks
from toy_tasks import Mix, play, tasks_scenario

from clustersim.records import CANCELLED, FINISHED

FRONTEND_S = 2.0**-9
PROMPT, THINKING, ANSWER = 100, 60, 20
ALL = {"kind": "best_of_n", "n": 8, "wait_for_all": True}


def once(strategy: Any, steps: Any = None, **changes: Any) -> toy_tasks.Played:
    """Play one task of fixed lengths on idle replicas."""
    scenario = tasks_scenario(strategy, (PROMPT, THINKING, ANSWER), **changes)
    return play(Mix(scenario, steps=steps or toy.Steps()))


def decode_s(steps: toy.Steps, batch: int, output: int) -> float:
    """Return the seconds in which `batch` sequences after the prompt make all but the first of `output` tokens."""
    return sum(steps.decode(batch).at(batch * (PROMPT + made)) for made in range(1, output))


@pytest.mark.parametrize("n", [1, 3, 8])
@pytest.mark.parametrize("block_size", [1, 16, 128])
def test_best_of_n_on_an_idle_replica_takes_a_prefill_and_the_steps_of_a_batch_of_n(
    n: int, block_size: int
) -> None:
    steps = toy.Steps()
    played = play(Mix(tasks_scenario({**ALL, "n": n}, (PROMPT, THINKING, ANSWER)), block_size, steps=steps))
    shared = (PROMPT - 1) // block_size * block_size
    tokens = PROMPT + (n - 1) * (PROMPT - shared)
    prefill = steps.mixed(0, 0, tokens, 0, 0, 0, 0)
    expected = FRONTEND_S + prefill + decode_s(steps, n, THINKING + ANSWER)
    assert played.tasks["finish_s"][0] == pytest.approx(expected, rel=1e-12)
    assert (played.rows["finish_s"] == played.tasks["finish_s"][0]).all()
    assert played.runs["prefill_tokens"].sum() == tokens
    np.testing.assert_array_equal(np.sort(played.rows["cached_tokens"]), [0] + (n - 1) * [shared])


def test_forks_of_a_prompt_save_what_separate_requests_spend_on_it() -> None:
    """31 times the whole blocks of the prompt in KV, and 31 times their prefill, from first principles."""
    n, prompt, size, output = 32, 2048, 16, 4
    steps = toy.Steps(slopes=(0, 0, 0, 0))
    best = {"kind": "best_of_n", "n": n, "wait_for_all": True}
    lengths = (prompt, 0, output)
    budget = {"scheduler": {"kind": "chunked_prefill", "token_budget": 1_000_000}}
    fork = play(Mix(tasks_scenario(best, lengths, deployment=budget), size, steps=steps))
    apart = play(Mix(tasks_scenario("direct", lengths, n, deployment=budget), size, steps=steps))
    shared = (prompt - 1) // size  # the last token of a prompt is always computed
    saved = apart.runs["kv_blocks"].max() - fork.runs["kv_blocks"].max()
    assert saved == (n - 1) * shared
    # The last step of all holds the prompt and all but the last of the output.
    own = -(-(prompt + output - 1) // size)
    assert apart.runs["kv_blocks"].max() == n * own
    assert apart.runs["prefill_tokens"].sum() - fork.runs["prefill_tokens"].sum() == (n - 1) * shared * size
    seconds = [(each.runs["end_s"] - each.runs["start_s"]).sum() for each in (apart, fork)]
    assert seconds[0] - seconds[1] == pytest.approx(
        steps.a_token * (n - 1) * shared * size * steps.tick_s, rel=1e-12
    )


def test_a_prompt_of_less_than_a_block_is_not_shared() -> None:
    played = play(Mix(tasks_scenario(ALL, (15, 3, 2)), 16))
    assert played.rows["cached_tokens"].sum() == 0
    assert played.runs["prefill_tokens"].sum() == 8 * 15


@pytest.mark.parametrize(("prompt", "shared"), [(16, 0), (17, 16), (32, 16), (33, 32)])
def test_the_last_token_of_a_prompt_is_computed_by_everyone(prompt: int, shared: int) -> None:
    played = play(Mix(tasks_scenario(ALL, (prompt, 3, 2)), 16))
    np.testing.assert_array_equal(np.sort(played.rows["cached_tokens"]), [0] + 7 * [shared])


# ---- a fleet without contention: a step takes as long for a thousand as for one ----------------------------------

CONSTANT = toy.Constant(2.0**-7)


def spread_out(strategy: Any, seed: int = 0, **changes: Any) -> toy_tasks.Played:
    scenario = tasks_scenario(
        strategy, (PROMPT, 300, ANSWER), 10, tasks={"spread": 1.0}, deployment={"scheduler": BIG}, **changes
    )
    return play(Mix(scenario, steps=CONSTANT), seed=seed)


BIG = {"kind": "chunked_prefill", "token_budget": 1_000_000, "max_num_seqs": 10_000}


def step_s(output: np.ndarray) -> np.ndarray:
    return FRONTEND_S + output * CONSTANT.step_s


def of_task(played: toy_tasks.Played, values: np.ndarray) -> np.ndarray:
    """Return values (tasks, requests of each) of requests that come in order of their tasks."""
    order = np.argsort(played.rows["task"], kind="stable")
    return values[order].reshape(len(played.tasks["status"]), -1)


def test_the_first_of_n_takes_the_least_and_all_of_n_the_most() -> None:
    every = spread_out({**ALL, "verifier": {"false_accept": 1}})
    longest = of_task(every, every.output).max(axis=1)
    took = every.tasks["finish_s"] - every.tasks["arrival_s"]
    np.testing.assert_allclose(took, step_s(longest), rtol=1e-12)
    first = spread_out({"kind": "best_of_n", "n": 8, "verifier": {"false_accept": 1}})
    shortest = of_task(every, every.output).min(axis=1)
    took = first.tasks["finish_s"] - first.tasks["arrival_s"]
    np.testing.assert_allclose(took, step_s(shortest), rtol=1e-12)
    cut = of_task(first, first.output)
    np.testing.assert_array_equal(cut, np.broadcast_to(shortest[:, None], cut.shape))
    states = of_task(first, first.rows["status"])
    assert (states == FINISHED).any(axis=1).all()
    assert (states[of_task(every, every.output) > shortest[:, None]] == CANCELLED).all()


def test_a_vote_ends_with_the_last_sample_or_when_it_is_settled() -> None:
    whole = spread_out({"kind": "vote", "n": 9, "early_stop": False})
    longest = of_task(whole, whole.output).max(axis=1)
    took = whole.tasks["finish_s"] - whole.tasks["arrival_s"]
    np.testing.assert_allclose(took, step_s(longest), rtol=1e-12)
    early = spread_out({"kind": "vote", "n": 9})
    assert (early.tasks["finish_s"] <= whole.tasks["finish_s"]).all()
    assert early.tasks["finish_s"].sum() < whole.tasks["finish_s"].sum()
    np.testing.assert_array_equal(early.tasks["correct"], whole.tasks["correct"])


@pytest.mark.parametrize("after", [0, 1, 3, 100])
def test_a_hedge_is_never_later_than_a_single_attempt(after: int) -> None:
    single = spread_out("chain_of_thought")
    hedged = spread_out({"kind": "hedge", "after": f"{after} s"})
    assert (hedged.tasks["finish_s"] <= single.tasks["finish_s"]).all()
    assert (len(hedged.output) > 10) == (after < 100), "a second attempt where the first is slow"
    if after == 0:
        assert (hedged.tasks["finish_s"] < single.tasks["finish_s"]).any()


def test_a_search_that_is_one_step_and_one_path_is_a_chain() -> None:
    chain = spread_out("chain_of_thought")
    search = spread_out({"kind": "tree_search", "depth": 1, "width": 1, "branching": 1})
    for name in ("finish_s", "correct", "status"):
        np.testing.assert_array_equal(chain.tasks[name], search.tasks[name], err_msg=name)
    np.testing.assert_array_equal(chain.output, search.output)


def test_a_search_of_one_path_thinks_as_long_as_a_chain_and_goes_on_from_its_kv() -> None:
    size, depth = 16, 5
    strategy = {"kind": "tree_search", "depth": depth, "width": 1, "branching": 1}
    search = play(Mix(tasks_scenario(strategy, (PROMPT, THINKING, ANSWER)), size, steps=CONSTANT))
    assert search.output.sum() == THINKING + ANSWER
    share = THINKING // depth
    # The KV of a step ends before its last token, and whole blocks of it are found by the next.
    left = [PROMPT + share * step for step in range(depth)]
    np.testing.assert_array_equal(
        search.rows["cached_tokens"], [0] + [(tokens - 1) // size * size for tokens in left[1:]]
    )
    expected = depth * FRONTEND_S + (THINKING + ANSWER) * CONSTANT.step_s
    assert search.tasks["finish_s"][0] == pytest.approx(expected, rel=1e-12)


def test_checks_of_one_task_share_its_prompt_where_they_are_read() -> None:
    """A reward model on a deployment of its own computes the question once, and each answer once."""
    size, prompt, n = 16, 2049, 8
    deployments = [
        {
            "name": name,
            "model": "llama-3.1-8b",
            "on": "pool",
            "serving_engine": toy_tasks.ENGINE,
            "scheduler": BIG,
        }
        for name in ("serve", "check")
    ]
    strategy = {"kind": "best_of_n", "n": n, "wait_for_all": True, "verifier": {"to": "check"}}
    scenario = tasks_scenario(
        strategy, (prompt, THINKING, ANSWER), deployments=deployments, workload={"to": "serve"}
    )
    played = play(Mix(scenario, size, (10**6, 10**6)))
    checks = played.rows["deployment"] == 1
    assert checks.sum() == n
    assert (played.rows["input_tokens"][checks] == prompt + THINKING + ANSWER).all()
    assert (np.sort(played.rows["cached_tokens"][checks]) == [0] + (n - 1) * [2048]).all()


def test_simultaneous_ends_on_equal_replicas_are_the_same_by_runs_and_by_steps() -> None:
    """Equal samples on equal replicas end at one instant; whose end cancels the others does not depend on the mode."""
    for n in (2, 3, 7):
        strategy = {"kind": "best_of_n", "n": n, "verifier": {"false_accept": 1}}
        scenario = tasks_scenario(strategy, num=5, tasks={"forks": "spread"}, deployment={"replicas": 3})
        rows = [play(Mix(scenario), mode).rows for mode in ("runs", "stepwise")]
        for name in ("finish_s", "status", "thinking_tokens", "answer_tokens"):
            np.testing.assert_array_equal(rows[0][name], rows[1][name], err_msg=name)
