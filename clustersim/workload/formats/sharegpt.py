"""ShareGPT conversations: text without times or token counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from clustersim.errors import InputError, Problem
from clustersim.workload.formats import Rows
from clustersim.workload.formats._json import CHARS_PER_TOKEN, document, number, tokens_of

_THOUGHT_ENDS = "</think>"


def matches(head: str) -> bool:
    """Say whether a file that begins with `head` is of this format."""
    return head.startswith("[") and '"conversations"' in head


def read(path: Path) -> Rows:
    """Read the first turn and its answer of each conversation, as vLLM's benchmark does.

    A turn's `tokens` is its length where given; else characters / 4, which the notes call assumed. What an
    answer holds up to </think> is thinking.
    """
    conversations = document(path)
    if not isinstance(conversations, list):
        raise InputError([Problem(str(path), "is no list of conversations")])
    entries: list[int] = []
    columns: list[tuple[float, float, float]] = []
    num_assumed = num_later = 0
    for index, conversation in enumerate(conversations):
        place = _entry(path, index)
        turns = conversation.get("conversations") if isinstance(conversation, dict) else None
        if not isinstance(turns, list):
            raise InputError([Problem(place, 'has no list "conversations"')])
        if len(turns) < 2:
            continue
        (asked, asked_assumed), (answered, answered_assumed) = (_length(turn, place) for turn in turns[:2])
        text = str(turns[1].get("value", ""))
        thought = text[: text.find(_THOUGHT_ENDS) + len(_THOUGHT_ENDS)] if _THOUGHT_ENDS in text else ""
        share = len(thought) / max(len(text), 1)
        thought_tokens = min(float(np.rint(share * answered)), answered - 1)
        columns.append((asked, answered, thought_tokens))
        entries.append(index)
        num_assumed += asked_assumed or answered_assumed
        num_later += len(turns) - 2
    inputs, outputs, thinking = np.array(columns, dtype=np.float64).reshape(-1, 3).T
    dropped = {"conversations of fewer than two turns": len(conversations) - len(entries)}
    dropped["turns after the first answer"] = num_later
    counted = f"{num_assumed} of {len(entries)} requests: characters / {CHARS_PER_TOKEN}"
    return Rows(
        place=lambda index: _entry(path, entries[index]),
        arrival_s=None,
        input_tokens=inputs,
        output_tokens=outputs,
        thinking_tokens=thinking if thinking.any() else None,
        num_dropped={what: num for what, num in dropped.items() if num},
        notes=(f"token counts assumed for {counted}",) if num_assumed else (),
    )


def _entry(path: Path, index: int) -> str:
    return f"{path}: conversation {index + 1}"


def _length(turn: Any, place: str) -> tuple[float, bool]:
    """Return a turn's tokens and whether they are assumed."""
    if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
        raise InputError([Problem(place, 'has a turn without the text "value"')])
    if "tokens" in turn:
        return number(turn["tokens"], "tokens", place), False
    return tokens_of(turn["value"]), True
