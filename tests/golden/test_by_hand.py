"""Runs small enough to follow with a pencil. A decode step takes 1 s, or 2 s from 4 tokens of context on."""

from __future__ import annotations

import toy

from clustersim.cost.curve import Curve
from clustersim.serving.schedulers.chunked_prefill import ChunkedPrefill
from clustersim.serving.schedulers.static_batch import StaticBatch


class Clock:
    """A prefill step takes 10 s; a decode step of any batch 1 s up to 3 tokens of context, and 2 s from 4 on."""

    def decode(self, batch: int) -> Curve:
        """See StepTimes."""
        return Curve([0, 3, 4, 5], [1.0, 1.0, 2.0, 2.0])

    def mixed(self, *_numbers: int) -> float:
        """See StepTimes."""
        return 10.0


def times(mix: toy.Mix, request: int) -> list[float]:
    rows = toy.serve(mix, Clock()).requests
    names = ("scheduled_s", "first_token_s", "first_answer_s", "finish_s")
    return [rows[name][request] for name in names]


def test_one_request() -> None:
    # Prefill of 2 tokens and the first token until 15; steps over 3, 4 and 5 tokens of context end at 16, 18, 20.
    assert times(toy.Mix([5.0], [2], [2], [2]), 0) == [5, 15, 18, 20]


def test_a_second_request_waits_for_the_step_in_progress() -> None:
    # The first decodes from 10 on: 11, 13, 15, ... The second comes at 11.5, is prefilled from 13 to 23, and
    # decodes its one other token beside the first until 25.
    mix = toy.Mix([0.0, 11.5], [2, 1], [0, 0], [9, 2])
    assert times(mix, 1) == [13, 23, 23, 25]
    # Of the first one's 8 steps, two precede that prefill, one is in it, five follow at 2 s.
    assert times(mix, 0) == [0, 10, 10, 33]


def test_a_prompt_in_chunks() -> None:
    mix = toy.Mix([0.0], [5], [0], [1], scheduler=ChunkedPrefill(token_budget=2))
    assert times(mix, 0) == [0, 30, 30, 30]


def test_a_static_batch_lets_nobody_in() -> None:
    mix = toy.Mix([0.0, 0.0, 1.0], [1, 1, 1], [0, 0, 0], [1, 2, 1], scheduler=StaticBatch(max_num_seqs=2))
    assert times(mix, 0)[-1] == 10
    assert times(mix, 1)[-1] == 11
    assert times(mix, 2) == [11, 21, 21, 21]


def test_a_sequence_that_finds_no_block_is_recomputed() -> None:
    # Blocks of one token, five in all. Both prompts of 2 fit; after the prefill each needs a third token, but one
    # block is left: the second goes, the first ends at 11, and the second prefills 2 + 1 tokens until 21.
    mix = toy.Mix([0.0, 0.0], [2, 2], [0, 0], [2, 3], block_size=1, num_blocks=5)
    outcome = toy.serve(mix, Clock())
    assert outcome.requests["num_preemptions"].tolist() == [0, 1]
    assert outcome.requests["first_token_s"].tolist() == [10, 10]
    assert outcome.requests["finish_s"].tolist() == [11, 23]
    assert outcome.runs["prefill_tokens"].tolist() == [4, 0, 3, 0]


def test_a_prompt_in_chunks_preempts_whoever_came_later() -> None:
    # Blocks of four tokens, four in all; chunks of 8. After the first step the long prompt has two blocks and the
    # short one, which came later, one full block. Both want more: the later one goes, and the first takes all four.
    mix = toy.Mix(
        [0.0, 0.0], [15, 4], [0, 0], [1, 3],
        scheduler=ChunkedPrefill(token_budget=8), in_flight=2, block_size=4, num_blocks=4,
    )  # fmt: skip
    outcome = toy.serve(mix, Clock())
    assert outcome.runs["prefill_tokens"].tolist() == [12, 7, 5, 0]
    assert outcome.requests["finish_s"].tolist() == [20, 32]
    assert outcome.requests["num_preemptions"].tolist() == [0, 1]
