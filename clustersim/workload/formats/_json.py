"""JSON with the line, or the entry, where it is not sound."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clustersim.errors import InputError, Problem
from clustersim.workload.formats import read_text

#: Characters a token, where a file gives text and no counts: OpenAI's rule of thumb for English.
CHARS_PER_TOKEN = 4


def objects(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield (line, object) for each line of a JSONL file that is not blank."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                value = json.loads(line)
            except ValueError as error:
                raise InputError([Problem(f"{path}:{number}", f"not valid JSON: {error}")]) from None
            if not isinstance(value, dict):
                raise InputError([Problem(f"{path}:{number}", "is no JSON object")])
            yield number, value


def document(path: Path) -> Any:
    """Return the one JSON value of a file."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError([Problem(f"{path}:{error.lineno}", f"not valid JSON: {error.msg}")]) from None


def number(value: object, name: str, place: str) -> float:
    """Return `value` as a float; raises InputError where it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        what = f'"{name}" is missing' if value is None else f"{name} is {json.dumps(value)[:60]}"
        raise InputError([Problem(place, what)])
    return float(value)


def tokens_of(text: str) -> int:
    """Return the tokens that `text` is assumed to have: characters / 4, one at least."""
    return max(1, round(len(text) / CHARS_PER_TOKEN))
