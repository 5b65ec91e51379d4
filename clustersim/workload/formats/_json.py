"""JSON with the line, or the entry, where it is not sound."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clustersim.errors import InputError, Problem, shortened
from clustersim.json_file import parse_json, read_json
from clustersim.text_file import decode
from clustersim.workload.formats import MAX_DOCUMENT_BYTES

#: Characters a token, where a file gives text and no counts: OpenAI's rule of thumb for English.
CHARS_PER_TOKEN = 4


def objects(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield (line, object) for each line of a JSONL file that is not blank."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = decode(line, str(path), number).strip()
            if text:
                value = parse_json(text, str(path), number)
                if not isinstance(value, dict):
                    raise InputError([Problem(f"{path}:{number}", "is no JSON object")])
                yield number, value


def document(path: Path) -> Any:
    """Return the one JSON value of a file."""
    return read_json(path, MAX_DOCUMENT_BYTES, "cut it, or write its requests as a CSV")


def number(value: object, name: str, place: str) -> float:
    """Return `value` as a float; raises InputError where it is no number, or none that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        what = f'"{name}" is missing' if value is None else f"{name} is {json.dumps(value)[:60]}"
        raise InputError([Problem(place, f"{what}; it must be a number")])
    try:
        return float(value)
    except OverflowError:
        raise InputError([Problem(place, f"{name} is {shortened(value, 24)}, which is too large")]) from None


def tokens_of(text: str) -> int:
    """Return the tokens that `text` is assumed to have: characters / 4, one at least."""
    return max(1, round(len(text) / CHARS_PER_TOKEN))
