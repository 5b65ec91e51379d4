"""JSON with the line where it is not sound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clustersim.errors import InputError, Problem, shortened
from clustersim.text_file import read_text


def read_json(path: Path, max_bytes: float, mend: str) -> Any:
    """Return the one JSON value of a file; raises InputError, see `text_file.check` and `parse_json`."""
    return parse_json(read_text(path, max_bytes, mend), str(path))


def parse_json(text: str, file: str, line: int = 1) -> Any:
    """Return the JSON value of a text that begins on `line` of a file; raises InputError with the line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        what = f"not valid JSON: {error.msg}"
        raise InputError([Problem(f"{file}:{line + error.lineno - 1}", what)]) from None
    except RecursionError:
        raise InputError([Problem(f"{file}:{line}", "is nested too deeply to read")]) from None
    except ValueError as error:  # Python's own limit on the digits of a whole number
        raise InputError([Problem(f"{file}:{line}", f"not valid JSON: {shortened(error)}")]) from None
