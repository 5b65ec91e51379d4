"""The built-in scenarios of tasks run as they are, and show what they are about."""

from __future__ import annotations

import pytest

import clustersim as cs
from clustersim.results.result import Result


def run(name: str, horizon: str) -> Result:
    result = cs.simulate(cs.load(name, [f"horizon={horizon}", "warm_up=none"]))
    assert result["regime"] == "STABLE"
    assert result["settings_without_effect"] == []
    assert result["tasks_ended"] > 10
    return result


def test_samples_share_the_prompt_and_the_reward_model_queues():
    result = run("best_of_n", "10 min")
    policy = result.requests[result.requests["deployment"] == "policy"]
    size = 2048 - 16  # whole blocks but the last, of which a token must be computed
    assert policy["cached_tokens"].isin([0, size]).all()
    assert (policy["cached_tokens"] == size).mean() > 0.8
    assert (result.requests[result.requests["deployment"] == "reward"]["role"] == "check").all()


def test_a_vote_is_right_more_often_than_one_attempt():
    result = run("self_consistency", "30 min")
    assert result["requests_per_task"] == 16
    assert result["accuracy"] > result["mean_success"]


def test_a_tree_search_goes_on_from_what_it_kept():
    result = run("tree_search", "1 min")
    assert result["requests_per_task"] == 2 * 4 * 16
    assert result["cached_frac"] > 0.3


def test_an_agents_context_grows():
    result = run("agents", "6 min")
    assert result["cached_frac"] > 0.8
    task = result.requests[result.requests["task"] == result.requests["task"].mode()[0]]
    assert task["input_tokens"].is_monotonic_increasing


def test_a_conversation_reuses_what_was_said_before():
    result = run("multi_turn_chat", "6 min")
    assert result["requests_per_task"] == pytest.approx(3.5, rel=0.15)
    assert result["cached_frac"] > 0.2
    task = result.requests[result.requests["task"] == result.requests["task"].mode()[0]]
    grown = (
        task["input_tokens"]
        - (task["input_tokens"] + task["thinking_tokens"] + task["answer_tokens"]).shift()
    )
    assert len(task) > 5
    assert (grown.dropna() >= 1).all(), "every turn has all that was said before it as context"
    assert (task["arrival_s"] >= task["finish_s"].shift().fillna(0)).all()


def test_a_cascade_asks_the_large_model_seldom():
    result = run("cascade", "10 min")
    large = result.requests["deployment"] == "large"
    assert 0 < large.mean() < 0.3
