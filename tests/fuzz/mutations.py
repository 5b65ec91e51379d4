"""Ways to break things: plain data with its shape known, and text and bytes with nothing known."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

Key = tuple[str | int, ...]

#: What people and programs write by mistake, and what breaks code that trusts them.
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 10**9, 10**17, -(10**17), 2**31, 2**53 + 1, 10**400, 0.0, -0.0, 0.5, 1e-320, 1e308,
    -1e308, float("nan"), float("inf"), float("-inf"), "", " ", "0", "-1", "1e999", "nan", "inf", "inf s", "nan s", "-5 s", "5",
    "5 m", "5 sec", "1e400 s", "0 s", "10 ms", "16 req/s", "0 req/s", "1e300 req/s", "3 GB", "-3 GB", "1 GB/s", "700 W", "2 **",
    "2 ** 9 ** 9 ** 9 s", "(" * 60 + "1 s", "s", "s s", "{x}", "%s", "\0", "\n", "\x1b[31m", "\ud800", "é", "a" * 5000, "..", "../..", "/",
    "/dev/null", "/etc", "none", "auto", "trace", "poisson", "fixed", "no such thing", "[", "{", "*", "&", "!!python/object:os.system",
    [], {}, [[]], [None], [{}], {"": None}, {"kind": None}, {"kind": []}, {"kind": "fixed"}, {"base": None}, {"base": "h100-sxm"},
    {"base": []}, {"name": 5}, {"kind": {"kind": "poisson"}}, ["a", 1, None], [[1, 2], [3]], {"a": {"b": {"c": {}}}},
)  # fmt: skip


def keys_of(data: Any, key: Key = ()) -> list[Key]:
    """Return the key of every node, the root's first."""
    found = [key]
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for step, value in items:
        found += keys_of(value, (*key, step))
    return found


def at(data: Any, key: Key) -> Any:
    """Return the node at a key."""
    for step in key:
        data = data[step]
    return data


@st.composite
def mutated(draw: st.DrawFn, data: Any, others: tuple[Any, ...] = ()) -> Any:
    """Return a copy of plain data with one to four changes; `others` give values of the right sort in wrong places."""
    data = copy.deepcopy(data)
    for _ in range(draw(st.integers(1, 4))):
        keys = keys_of(data)[1:]
        if not keys:
            return data
        key = draw(st.sampled_from(keys))
        holder, step = at(data, key[:-1]), key[-1]
        change = draw(st.sampled_from(("replace", "splice", "drop", "rename", "scale", "wrap", "repeat")))
        if change == "replace":
            holder[step] = copy.deepcopy(draw(_values()))
        elif change == "splice":
            source = draw(st.sampled_from((data, *others)))
            holder[step] = copy.deepcopy(at(source, draw(st.sampled_from(keys_of(source)))))
        elif change == "drop":
            del holder[step]
        elif change == "rename" and isinstance(holder, dict):
            words = [str(each[-1]) for each in keys]
            name = draw(st.one_of(st.sampled_from(words), st.text(max_size=8)))
            holder[name] = holder.pop(step)
        elif change == "scale" and isinstance(holder[step], int | float):
            holder[step] *= draw(st.sampled_from((-1, 0, 0.5, 1e3, 1e9, 1e30)))
        elif change == "wrap":
            holder[step] = draw(
                st.sampled_from(([holder[step]], {"kind": holder[step]}, {"x": holder[step]}))
            )
        elif change == "repeat" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[step]))
    return data


def _values() -> st.SearchStrategy[Any]:
    return st.one_of(st.sampled_from(ODD), st.integers(), st.floats(), st.text(max_size=20))


_TOKENS = (
    b"\n", b"  ", b"\t", b": ", b"- ", b"[", b"]", b"{", b"}", b",", b'"', b"'", b"&a ", b"*a", b"!!binary ", b"!x ", b"? ", b"|\n", b">\n",
    b"---\n", b"...\n", b"%YAML 9.9\n", b"<<: ", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"#", b"1e999", b"nan", b"-", b"-1", b"NaN",
    b"Infinity", b"null", b"0x", b"9" * 400, b"2024-01-01", b"\r", b"\r\n", b"\x1a", b"\\u0000", b'"\\ud800"', b"[" * 200, b"{a: " * 200,
)  # fmt: skip


@st.composite
def broken(draw: st.DrawFn, text: bytes) -> bytes:
    """Return bytes with one to six of them removed, replaced, repeated, or odd ones put in; or cut short."""
    data = bytearray(text)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from((0, 1, 1, 2, 8, 40)))
        change = draw(st.sampled_from(("put", "put", "flip", "drop", "repeat", "cut")))
        if change == "put":
            data[place : place + length] = draw(st.one_of(st.sampled_from(_TOKENS), st.binary(max_size=6)))
        elif change == "flip" and place < len(data):
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif change == "drop":
            del data[place : place + length]
        elif change == "repeat":
            data[place:place] = data[place : place + length] * draw(st.sampled_from((1, 2, 50)))
        elif change == "cut" and draw(st.booleans()):
            del data[place:]
    return bytes(data)
