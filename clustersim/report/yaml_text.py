"""Plain data as YAML in blocks: byte for byte what ruamel.yaml writes, in a tenth of the time.

A resolved scenario has hundreds of figures, most of them short words and numbers that need no quotes. Those are written
as they stand; what might need quotes is given to ruamel.yaml, as is a whole document with text of several lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from io import StringIO
from typing import Any

#: Longer text may be broken into lines, and a longer key is written otherwise.
_LONGEST, _LONGEST_KEY = 4000, 100
#: Words, or a number with its unit, that can be nothing but text.
_WORDS = re.compile(
    r"(?:[A-Za-z]|\d[\d.]* (?=[A-Za-z]))[\w.,;()/@%+=<>*~^$-]*(?: [\w.,;()/@%+=<>*~^$-]+)*", re.ASCII
)
_NOT_TEXT = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))


def yaml_text(value: Any) -> str:
    """Return mappings, lists, text, numbers, booleans and None as YAML; keys in their order."""
    try:
        lines = list(_block(value, ""))
    except _NotSimpleError:
        return _ruamel(value)
    return "\n".join(lines) + "\n"


class _NotSimpleError(Exception):
    pass


def _block(value: Any, indent: str) -> Iterator[str]:
    """Yield the lines of a mapping or a list that is not empty."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            name = _scalar(key)
            if len(name) > _LONGEST_KEY:
                raise _NotSimpleError
            if isinstance(item, Mapping) and item:
                yield f"{indent}{name}:"
                yield from _block(item, indent + "  ")
            elif isinstance(item, list) and item:
                yield f"{indent}{name}:"
                yield from _block(item, indent)
            else:
                text = _scalar(item)
                yield f"{indent}{name}: {text}" if text else f"{indent}{name}:"
    elif isinstance(value, list) and value:
        for item in value:
            if isinstance(item, Mapping | list) and item:
                first, *others = _block(item, indent + "  ")
                yield f"{indent}- {first[len(indent) + 2 :]}"
                yield from others
            else:
                yield f"{indent}- {_scalar(item)}"
    else:
        raise _NotSimpleError


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        if _WORDS.fullmatch(value) and len(value) < _LONGEST and value.lower() not in _NOT_TEXT:
            return value
        if len(value) >= _LONGEST or not value.isprintable():
            raise _NotSimpleError
        return _quoted(value)
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        text = repr(value)
        return text if text[-1].isdigit() and "e" not in text else _quoted(value)
    if value is None or value in ({}, []):
        return _quoted(None) if value is None else "{}" if isinstance(value, Mapping) else "[]"
    raise _NotSimpleError


@lru_cache(maxsize=4096)
def _quoted(value: str | float | None) -> str:
    """Return a scalar as ruamel.yaml writes it in a mapping."""
    return _ruamel({"k": value})[2:-1].lstrip(" ")


def _ruamel(value: Any) -> str:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 4096
    stream = StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()
