"""How often tasks are answered rightly, in simulation, against the formulas of the quality model.

Seeds are fixed. Each comparison is of thousands of tasks, and allows four standard errors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import toy
from toy_tasks import Mix, Played, play, success, tasks_scenario

from clustersim.quality import parallel

NU, MEAN, NUM = 1.2, 0.3, 2000
QUICK = toy.Constant(2.0**-10)
WIDE = {"scheduler": {"kind": "chunked_prefill", "token_budget": 10**9, "max_num_seqs": 10**6}}


def simulated(
    strategy: Any, num: int = NUM, lengths: tuple[int, int, int] = (8, 4, 2), **tasks: Any
) -> Played:
    scenario = tasks_scenario(
        strategy,
        lengths,
        num,
        tasks={"accuracy": MEAN, **tasks},
        deployment={**WIDE, "router": "round_robin"},
    )
    return play(Mix(scenario, 64, (10**9,), QUICK))


def assert_share(right: np.ndarray, expected: float) -> None:
    assert abs(right.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / len(right)) + 1e-12


@pytest.mark.parametrize("lengths", [(8, 4, 2), (8, 0, 2)], ids=["thinking", "none"])
def test_problems_are_as_hard_as_the_benchmark_says(lengths: tuple[int, int, int]) -> None:
    """Also where all think alike: then length says nothing about difficulty."""
    tasks = simulated("chain_of_thought", lengths=lengths, difficulty_correlation=0.9).tasks
    assert_share(tasks["correct"], MEAN)
    np.testing.assert_allclose(np.sort(tasks["difficulty"]), np.linspace(0, 1, NUM), atol=0.05)


@pytest.mark.parametrize("k", [1, 4, 10])
def test_a_perfect_verifier_gives_coverage(k: int) -> None:
    tasks = simulated({"kind": "best_of_n", "n": k}).tasks
    assert_share(tasks["correct"], float(parallel.coverage(MEAN, k, NU)))
    np.testing.assert_array_equal(tasks["correct"] == 1, tasks["status"] == 1)


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize(("k", "threshold"), [(8, 0.35), (9, 0.5), (100, 0.29)])
def test_a_vote_gives_plurality(k: int, threshold: float, early_stop: bool) -> None:
    num = NUM if k < 50 else 250
    tasks = simulated({"kind": "vote", "n": k, "threshold": threshold, "early_stop": early_stop}, num).tasks
    assert_share(tasks["correct"], float(parallel.plurality(MEAN, k, NU, threshold)))


@pytest.mark.parametrize("k", [1, 2])
def test_a_vote_of_two_is_no_better_than_one(k: int) -> None:
    assert_share(simulated({"kind": "vote", "n": k}).tasks["correct"], MEAN)


@pytest.mark.parametrize("accept", [(0.9, 0.1), (0.8, 0.4), (1.0, 1.0)])
@pytest.mark.parametrize("k", [1, 8])
def test_a_noisy_verifier_gives_its_formula(k: int, accept: tuple[float, float]) -> None:
    verifier = dict(zip(("true_accept", "false_accept"), accept, strict=True))
    tasks = simulated({"kind": "best_of_n", "n": k, "verifier": verifier}).tasks
    assert_share(tasks["correct"], float(parallel.verified(MEAN, k, NU, *accept)))


@pytest.mark.parametrize("thinking", [25, 100, 300, 900])
def test_a_forced_budget_gives_the_accuracy_of_its_effort(thinking: int) -> None:
    forced = {"kind": "budget_forcing", "min_thinking": thinking, "max_thinking": thinking}
    expected = success(MEAN).mean(thinking / 100)
    assert_share(simulated(forced, lengths=(8, 100, 2)).tasks["correct"], expected)
    scaled = simulated({"kind": "chain_of_thought", "scale": thinking / 100}, lengths=(8, 100, 2))
    assert_share(scaled.tasks["correct"], expected)
    assert (scaled.rows["thinking_tokens"] == thinking).all()


def test_a_direct_answer_has_the_effort_of_its_own_tokens() -> None:
    played = simulated("direct", lengths=(8, 100, 10))
    assert_share(played.tasks["correct"], success(MEAN).mean(0.1))
    assert (played.rows["thinking_tokens"] == 0).all()


@pytest.mark.parametrize("depth", [1, 3])
def test_a_search_of_one_path_is_right_as_often_as_a_chain(depth: int) -> None:
    search = {"kind": "tree_search", "depth": depth, "width": 1, "branching": 1}
    assert_share(simulated(search).tasks["correct"], MEAN)


def test_a_search_with_a_perfect_reward_is_right_where_any_path_is() -> None:
    """Width and branching 2, one step: four paths, and the accepted ones are kept first."""
    search = {"kind": "tree_search", "depth": 1, "width": 2, "branching": 2}
    perfect = {**search, "verifier": {"true_accept": 1, "false_accept": 0}}
    assert_share(simulated(perfect).tasks["correct"], float(parallel.coverage(MEAN, 4, NU)))
    useless = {**search, "verifier": {"true_accept": 1, "false_accept": 1}}
    assert_share(simulated(useless).tasks["correct"], MEAN)


def problem_mean(function: Any, means: float = MEAN) -> float:
    """Return the mean over problems of a function of their chance of success."""
    middle = (np.arange(200_000) + 0.5) / 200_000
    return float(np.mean(function(success(means).of(middle))))


def test_revision_is_a_chain_of_two_states() -> None:
    rates = {"detects": 0.6, "doubts": 0.2, "repairs": 0.7, "breaks": 0.3}
    rounds = 3
    played = simulated({"kind": "revise", "rounds": rounds, "critique_tokens": 1, **rates})

    def right(p: np.ndarray) -> np.ndarray:
        state = {(True, True): p, (False, True): 1 - p}  # (right, goes on)
        done = 0.0
        for _ in range(rounds):
            good, bad = state[True, True], state[False, True]
            done = done + good * (1 - rates["doubts"])
            again_good, again_bad = good * rates["doubts"], bad * rates["detects"]
            better = again_good * (1 - rates["breaks"]) + again_bad * rates["repairs"] * p
            state = {(True, True): better, (False, True): again_good + again_bad - better}
        return done + state[True, True]

    assert_share(played.tasks["correct"], problem_mean(right))


def test_a_cascade_costs_and_answers_as_its_verifier_implies() -> None:
    accept = {"true_accept": 0.8, "false_accept": 0.25}
    cheap, strong = {"kind": "chain_of_thought", "scale": 0.25}, "chain_of_thought"
    played = simulated(
        {"kind": "cascade", "cheap": cheap, "strong": strong, "verifier": accept}, lengths=(8, 100, 2)
    )
    middle = (np.arange(200_000) + 0.5) / 200_000
    weak = success(success(MEAN).mean(0.25)).of(middle)
    full = success(MEAN).of(middle)
    escalated = 1 - (weak * 0.8 + (1 - weak) * 0.25)
    again = np.bincount(played.rows["task"]) == 2
    assert_share(again, float(escalated.mean()))
    assert_share(played.tasks["correct"], float((weak * 0.8 + escalated * full).mean()))


def test_a_router_costs_and_answers_as_its_errors_imply() -> None:
    share, finds, alarms = 0.3, 0.8, 0.1
    cheap = {"kind": "chain_of_thought", "scale": 0.25}
    strategy = {
        "kind": "route",
        "cheap": cheap,
        "hard_share": share,
        "finds_hard": finds,
        "false_alarms": alarms,
    }
    played = simulated(strategy, lengths=(8, 100, 2))
    strong = played.rows["thinking_tokens"] == 100
    assert_share(strong, share * finds + (1 - share) * alarms)
    middle = (np.arange(200_000) + 0.5) / 200_000
    weak, full = (
        success(MEAN).of(middle) if x == 1 else success(success(MEAN).mean(x)).of(middle) for x in (0.25, 1)
    )
    chance = np.where(middle > 1 - share, finds, alarms)
    assert_share(played.tasks["correct"], float((chance * full + (1 - chance) * weak).mean()))


def test_an_agent_takes_as_many_turns_as_its_failures_imply() -> None:
    """A geometric number of turns, and one more for every call that fails."""
    mean, failure = 4.0, 0.25
    strategy = {
        "kind": "agent",
        "mean_turns": mean,
        "max_turns": 1000,
        "tool_failure": failure,
        "tool_latency": "0 s",
    }
    played = simulated(strategy)
    turns = np.bincount(played.rows["task"])
    assert abs(turns.mean() - (1 + (mean - 1) / (1 - failure))) < 4 * turns.std() / np.sqrt(len(turns))
    assert_share(played.tasks["correct"], MEAN)


def test_adaptive_thinking_reaches_its_target_where_it_can() -> None:
    strategy = {"kind": "adaptive", "target": 0.5, "misjudgement": 0, "min_scale": 0.01, "max_scale": 4}
    played = simulated(strategy, lengths=(8, 1000, 2))
    scale = played.rows["thinking_tokens"] / 1000
    bounds = success(MEAN)
    for difficulty, used in zip(played.tasks["difficulty"][:300], scale, strict=False):
        if bounds.at(difficulty, 0.01) >= 0.5 or bounds.at(difficulty, 4) < 0.5:
            assert used == pytest.approx(0.01)
        else:
            assert bounds.at(difficulty, used + 0.0005) >= 0.5  # whole tokens
            assert bounds.at(difficulty, 0.98 * (used - 0.0005)) < 0.5


def test_parallel_thinking_and_debate_at_their_ends() -> None:
    """A synthesis that always recognises a right way is coverage; one way that it never does is a fresh attempt."""
    knows = {
        "kind": "parallel_thinking",
        "n": 4,
        "recognises": 1,
        "synthesis_thinking": 2,
        "summary_tokens": 2,
    }
    assert_share(simulated(knows).tasks["correct"], float(parallel.coverage(MEAN, 4, NU)))
    blind = {**knows, "n": 1, "recognises": 0}
    assert_share(simulated(blind).tasks["correct"], problem_mean(lambda p: (1 - p) * p))
    settled = {"kind": "debate", "agents": 3, "rounds": 2, "rebuttal_tokens": 1, "convinced": 1, "misled": 0}
    assert_share(simulated(settled).tasks["correct"], float(parallel.coverage(MEAN, 3, NU)))
    deaf = {**settled, "convinced": 0}
    assert_share(simulated(deaf).tasks["correct"], float(parallel.plurality(MEAN, 3, NU, 0.5)))
