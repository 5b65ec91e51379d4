"""JSON objects with the line of what is wrong in them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clustersim.errors import InputError, Problem


def parse(path: Path, text: str) -> Mapping[str, Any]:
    """Return the JSON object of a file's text; raises InputError with the line."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError([Problem(f"{path}:{error.lineno}", f"not valid JSON: {error.msg}")]) from None
    except RecursionError:
        raise InputError([Problem(str(path), "is nested too deeply")]) from None
    if not isinstance(value, dict):
        raise InputError([Problem(f"{path}:1", "is no JSON object")])
    return value


def line_of(text: str, key: str) -> int:
    """Return the line on which a key first stands, 1 where it does not."""
    at = text.find(f'"{key}"')
    return text.count("\n", 0, at) + 1 if at >= 0 else 1


def positive(path: Path, text: str, key: str, value: object) -> float:
    """Return a finite number of at least 0; raises InputError with the line of its key."""
    sound = isinstance(value, int | float) and not isinstance(value, bool)
    if not sound or not math.isfinite(float(value)) or float(value) < 0:  # type: ignore[arg-type]  # a number if sound
        what = f"{key} is {json.dumps(value)[:60]}; a finite number of at least 0 is needed"
        raise InputError([Problem(f"{path}:{line_of(text, key)}", what)])
    return float(value)  # type: ignore[arg-type]  # as above
