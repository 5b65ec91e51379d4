"""Conversations: what each turn has as context, when the user comes back, and when a session ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import toy_tasks
from pydantic import ValidationError
from toy_tasks import TICK_S, Mix, Played, play, tasks_scenario

from clustersim.kinds import OneOf
from clustersim.records import ANSWERED, FINISHED, GAVE_UP, REJECTED
from clustersim.workload.strategies.conversation import Conversation
from clustersim.workload.tasks import Task

FIRST = (64, 32, 8)
PLAIN = {
    "kind": "conversation",
    "turns": 3,
    "new": 20,
    "thinking": 5,
    "answer": 7,
    "think_time": f"{500 * TICK_S} s",
}


def played(
    num: int = 1, lengths: tuple[int, int, int] = FIRST, changes: Any = None, **settings: Any
) -> Played:
    return play(Mix(tasks_scenario({**PLAIN, **settings}, lengths, num, **(changes or {}))))


def turns_of(strategy: dict[str, Any], index: int = 0, spread: float = 0.3) -> list[Any]:
    task = Task(index, *FIRST, 0.5, spread, f"0/x/{index}")
    sample = task.sample()
    return list(Conversation(**strategy)._turns(task, task.fork(), sample.thinking))


def test_each_turn_has_all_before_it_as_context():
    result = played(num=4)
    rows = result.rows
    for task in range(4):
        mine = rows["task"] == task
        assert rows["thinking_tokens"][mine].tolist() == [32, 5, 5]
        assert rows["answer_tokens"][mine].tolist() == [8, 7, 7]
        # 64; the first turn's 64 + 32 + 8 and 20 new; that and 5 + 7 and 20 new
        assert rows["input_tokens"][mine].tolist() == [64, 124, 156]
        said = 64 + 20 + 20 + result.output[mine].sum()
        assert rows["input_tokens"][mine][-1] + result.output[mine][-1] == said
    assert (rows["status"] == FINISHED).all()
    assert (result.tasks["status"] == ANSWERED).all()


def test_the_user_comes_back_after_thinking_and_sees_the_first_answer_first():
    result = played()
    rows = result.rows
    back = rows["arrival_s"][1:] - rows["finish_s"][:-1]
    np.testing.assert_array_equal(back, 500 * TICK_S)
    assert result.tasks["first_output_s"][0] == rows["first_answer_s"][0]
    assert result.tasks["finish_s"][0] == rows["finish_s"][-1]
    assert (rows["role"] == 1).all(), "every turn is useful"


def test_the_context_is_found_in_the_cache_in_whole_blocks():
    result = played()
    # What a request left is its input and output but for the last token, whose KV nobody computed.
    left = (result.rows["input_tokens"] + result.output - 1)[:-1] // 16 * 16
    assert result.rows["cached_tokens"].tolist() == [0, *left]


def test_later_turns_are_like_the_first_where_nothing_is_said():
    turns = turns_of({"turns": 4, "think_time": "1 s"}, spread=0)
    assert [(turn.new, turn.thinking, turn.answer) for turn in turns] == [FIRST] * 4
    assert [turn.think_s for turn in turns] == [0, 1, 1, 1]
    thought = [turn.thinking for turn in turns_of({"turns": 50})]
    assert len(set(thought)) > 10, "attempts vary about the task's own length"
    assert np.mean(thought) == pytest.approx(32, rel=0.2)


def test_tools_are_called_within_every_turn():
    tools = {"calls": 2, "call_tokens": 3, "time": f"{40 * TICK_S} s", "result": 10}
    result = played(tools=tools)
    rows = result.rows
    assert len(result.output) == 3 * 3
    assert rows["thinking_tokens"].tolist() == [10, 10, 12, 1, 1, 3, 1, 1, 3]
    assert rows["answer_tokens"].tolist() == [3, 3, 8, 3, 3, 7, 3, 3, 7]
    added = rows["input_tokens"][1:] - (rows["input_tokens"] + result.output)[:-1]
    assert added.tolist() == [10, 10, 20, 10, 10, 20, 10, 10]
    waited = (rows["arrival_s"][1:] - rows["finish_s"][:-1]) / TICK_S
    assert waited.tolist() == [40, 40, 500, 40, 40, 500, 40, 40]
    assert result.tasks["first_output_s"][0] == rows["first_answer_s"][2], "a tool call is no answer"


@pytest.mark.parametrize(("longest", "turns"), [(104, 1), (135, 1), (136, 2), (167, 2), (168, 3), (500, 3)])
def test_a_session_ends_when_its_next_turn_does_not_fit(longest: int, turns: int):
    # after the turns: 104, 104 + 20 + 12 = 136, and 168 tokens
    result = played(changes={"deployment": {"max_model_len": longest}})
    assert len(result.output) == turns
    assert (result.rows["status"] == FINISHED).all()
    assert result.tasks["status"].tolist() == [ANSWERED]
    assert result.tasks["finish_s"][0] == result.rows["finish_s"][-1], (
        "nobody waits for a turn that never comes"
    )


def test_tools_count_towards_what_has_to_fit():
    tools = {"calls": 1, "call_tokens": 3, "time": "0 s", "result": 10}
    whole = 64 + 40 + 13 + 20 + 12 + 13
    for longest, num in ((whole - 1, 2), (whole, 4)):
        result = played(turns=2, tools=tools, changes={"deployment": {"max_model_len": longest}})
        assert len(result.output) == num
        assert result.tasks["status"].tolist() == [ANSWERED]


def test_a_session_whose_first_turn_is_refused_gives_up():
    result = played(changes={"deployment": {"max_model_len": 103}})
    assert result.rows["status"].tolist() == [REJECTED]
    assert result.tasks["status"].tolist() == [GAVE_UP]


def test_one_turn_is_a_plain_request():
    alone = played(turns=1, num=5)
    plain = play(Mix(tasks_scenario({"kind": "chain_of_thought"}, FIRST, 5)))
    for name in ("finish_s", "first_token_s", "input_tokens", "thinking_tokens", "answer_tokens"):
        np.testing.assert_array_equal(alone.rows[name], plain.rows[name])
    np.testing.assert_array_equal(alone.tasks["correct"], plain.tasks["correct"])


def test_what_a_session_is_made_of_is_drawn_apart():
    base = {"new": {"kind": "uniform", "low": 1, "high": 99}, "answer": {"kind": "uniform", "low": 1, "high": 99},
            "turns": {"kind": "uniform", "low": 3, "high": 9}}  # fmt: skip
    one, other = turns_of(base), turns_of({**base, "think_time": "3 s", "tools": {"calls": 2}, "thinking": 4})
    assert len(one) == len(other)
    assert [(turn.new, turn.answer) for turn in one] == [(turn.new, turn.answer) for turn in other]
    assert one[1].think_s != other[1].think_s == 3
    assert turns_of(base, 1) != one == turns_of(base)


def test_sessions_are_as_long_and_as_slow_as_published():
    sessions = [turns_of({}, index) for index in range(1500)]
    lengths = np.array([len(turns) for turns in sessions])
    assert lengths.min() == 1
    assert lengths.mean() == pytest.approx(3.5, rel=0.06)
    gaps = np.array([turn.think_s for turns in sessions for turn in turns[1:]])
    assert np.median(gaps) == pytest.approx(100, rel=0.08)
    assert gaps.max() <= 3600


def test_a_user_who_thinks_longer_finds_less_in_a_small_cache():
    def cached(think_time: str) -> float:
        scenario = tasks_scenario({**PLAIN, "think_time": think_time}, num=60, workload={
            "arrivals": {"kind": "deterministic", "rate": "128 req/s"}})  # fmt: skip
        return float(play(Mix(scenario, num_blocks=(60,))).rows["cached_tokens"].sum())

    soon, late = cached("0 s"), cached("1 s")
    assert 0 <= late < 0.7 * soon


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"turns": 0}, "`turns` spans 0 to 0; at least 1 is needed"),
        ({"turns": {"kind": "uniform", "low": -2, "high": 3}}, "`turns` spans -2 to 3"),
        ({"new": 0}, "`new` spans 0 to 0; at least 1"),
        ({"thinking": -1}, "`thinking` spans -1 to -1"),
        ({"answer": 0.2}, "`answer` spans 0.2 to 0.2; at least 1"),
        ({"think_time": 30}, '30 has no unit; write it like "30 s"'),
        ({"think_time": {"kind": "lognormal", "median": 30, "sigma": 1}}, "30 has no unit"),
        ({"think_time": {"kind": "lognormal", "median": "30 s", "sigma": "1 s"}}, "sigma"),
        ({"think_time": "-3 s"}, "-3 s must be zero or more"),
        ({"think_time": {"kind": "quantiles", "table": {"0": "1 s", "1": "5"}}}, "has no unit"),
        ({"think_time": {"kind": "lognorml"}}, 'no distribution "lognorml". Did you mean "lognormal"'),
        ({"tools": {"calls": -1}}, "`calls` spans -1 to -1"),
        ({"tools": {"result": -1}}, "`result` spans"),
        ({"tools": {"call_tokens": 0}}, "call_tokens"),
        ({"users": 3}, "users"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], words: str):
    with pytest.raises(ValidationError) as caught:
        OneOf("strategy").validate({"kind": "conversation", **settings})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "think_time",
    [
        "30 s", "1.5 min", "0 s", {"kind": "fixed", "value": "2 h"},
        {"kind": "uniform", "low": "1 s", "high": "0.1 h"},
        {"kind": "quantiles", "table": {"0": "1 s", "0.5": "10 s", "1": "1 h"}},
        {"kind": "lognormal", "mean": "100 s", "p90": "200 s", "max": "1 h"},
    ],
)  # fmt: skip
def test_times_are_written_back_with_units(think_time: Any):
    value = OneOf("strategy").validate({"kind": "conversation", "think_time": think_time})
    again = OneOf("strategy").validate(value.model_dump(mode="json"))
    assert again == value
    assert value.model_dump(mode="json")["think_time"]["kind"]
    given = value.model_dump(mode="json", exclude_unset=True)
    assert OneOf("strategy").validate(given) == value


def test_it_is_in_the_random_mixes():
    assert "conversation" in toy_tasks.KINDS
