"""Product code finds its own contradictions: records that are tampered with give no result, and exit code 70."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import toy

from clustersim.errors import InternalError
from clustersim.records import CANCELLED, FINISHED, WAITING
from clustersim.results import conserved, result
from clustersim.simulation import simulate

CHECK = conserved.check_conserved


@pytest.fixture(scope="module")
def sound() -> Callable[[], tuple[Any, dict[str, np.ndarray], Any, Any]]:
    """The records of a run, anew each time."""
    seen: list[Any] = []

    def look(*arguments: Any) -> None:
        seen.append(arguments)
        CHECK(*arguments)

    def run() -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(result, "check_conserved", look)
            simulate(toy.scenario())
        records, runs, plans, first = seen[-1]
        return records, {name: column.copy() for name, column in runs.items()}, plans, first

    return run


Records = Any
Runs = dict[str, np.ndarray]
TAMPERS: dict[str, tuple[Callable[[Records, Runs], None], str]] = {
    "a status that is none": (lambda r, _: put(r, "status", 77), "requests 99 are accounted for"),
    "a status below all": (lambda r, _: put(r, "status", -1), "requests 99 are accounted for"),
    "an end without a beginning": (lambda r, _: put(r, "arrival_s", np.nan), "ended that was never sent"),
    "no last token": (lambda r, _: put(r, "finish_s", np.nan), "finished without finish_s"),
    "no first token": (lambda r, _: put(r, "first_token_s", np.nan), "finished without first_token_s"),
    "an end before the beginning": (lambda r, _: put(r, "finish_s", 0.0), "finish_s of a request lies before"),
    "a start before the arrival": (lambda r, _: put(r, "scheduled_s", 0.0), "scheduled_s of a request lies before"),
    "tokens below none": (lambda r, _: put(r, "thinking_tokens", -5), "thinking_tokens of a request is negative"),
    "preemptions below none": (lambda r, _: put(r, "num_preemptions", -1), "num_preemptions of a request is negative"),
    "cached more than there is": (lambda r, _: put(r, "cached_tokens", 10**6), "more of a prompt was cached"),
    "a token more": (lambda r, _: put(r, "answer_tokens", 10**6), "steps made"),
    "a request that is forgotten": (lambda r, _: put(r, "status", 2), "steps made"),
    "a step more": (lambda _, runs: put_run(runs, "num_steps", 10**6), "steps made"),
    "steps below none": (lambda _, runs: put_run(runs, "num_steps", -1), "num_steps of a run is negative"),
    "a batch below none": (lambda _, runs: put_run(runs, "batch", -1), "batch of a run is negative"),
    "KV below none": (lambda _, runs: put_run(runs, "kv_blocks", -1), "kv_blocks of a run is negative"),
    "more KV than there is": (lambda _, runs: put_run(runs, "kv_blocks", 1e9), "serve holds more KV blocks"),
    "a run that ends before it begins": (lambda _, runs: put_run(runs, "end_s", 0.0), "a run ends before it begins"),
}  # fmt: skip


def put(records: Records, name: str, value: float) -> None:
    records.column(name)[50] = value


def put_run(runs: Runs, name: str, value: float) -> None:
    runs[name][len(runs[name]) // 2] = value


@pytest.mark.parametrize("name", TAMPERS)
def test_found(name: str, sound: Callable[[], Any]) -> None:
    tamper, says = TAMPERS[name]
    records, runs, plans, first = sound()
    CHECK(records, runs, plans, first)
    tamper(records, runs)
    with pytest.raises(InternalError, match=says) as caught:
        CHECK(records, runs, plans, first)
    assert "please report it, with the scenario and the seed" in str(caught.value)


def test_what_is_under_way_may_have_made_more_than_was_given_out(sound: Callable[[], Any]) -> None:
    records, runs, plans, first = sound()
    put(records, "finish_s", np.nan)
    put(records, "status", WAITING)
    CHECK(records, runs, plans, first)
    put(records, "status", CANCELLED)
    CHECK(records, runs, plans, first)
    assert (records.column("status") == FINISHED).sum() == 99


def test_the_program_says_so_and_writes_nothing(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from clustersim.cli import main

    def broken(*_: Any) -> None:
        raise InternalError("2 + 2 is 5")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(result, "check_conserved", broken)
    monkeypatch.setattr(sys, "argv", ["clustersim", "run", "chat_h100", "--set", "horizon=5 s", "--quiet"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 70
    errors = capsys.readouterr().err
    assert errors.startswith("clustersim contradicts itself: 2 + 2 is 5. This is a mistake in clustersim")
    assert list(tmp_path.iterdir()) == []
