"""The YAML of a resolved scenario: the bytes of ruamel.yaml, whatever the data."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from clustersim import library
from clustersim.errors import InputError
from clustersim.report.yaml_text import _ruamel, yaml_text
from clustersim.scenario.load import load

WORDS = st.sampled_from(
    ["yes", "No", "null", "~", "1e3", "0x1F", "1_000", "2026-11-22", "12:30", "1730 W", "3.35 TB/s", "1 2", "- a", "a: b",
     "a #b", "a:", "#", "", " a", "a ", "'", '"', "a'b", "[1]", "{a", "*x", "&x", "!t", "%", "@", "`", "?", "? a", "=", "<<",
     "---", "...", ".5", ".inf", "+1", "-", "a\nb", "a\n", "\t", "é", "日本", "\u2028", "\x85", "\U0001f600", "1.", "1.5.2", "TRUE"]
)  # fmt: skip
TEXT = WORDS | st.text(max_size=12) | st.from_regex(r"[ -~]{0,12}", fullmatch=True)
SCALARS = TEXT | st.integers() | st.floats() | st.booleans() | st.none()
KEYS = TEXT | st.integers() | st.floats(allow_nan=False)
PLAIN = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(PLAIN)
@example({"a": {}, "b": [], "c": [[], {}, [[1, {"d": [2]}]]]})
@example({"a" * 101: 1, "b": "c " * 2100, "d": ["e\nf"]})
def test_it_is_what_ruamel_writes(value):
    assert yaml_text(value) == _ruamel(value)


@pytest.mark.parametrize("name", library.names("scenarios"))
def test_scenarios_are_written_and_read_alike(name):
    try:
        plain = load(name).model_dump(mode="json", exclude_unset=True)
    except InputError as refused:
        pytest.skip(str(refused))
    text = yaml_text(plain)
    assert text == _ruamel(plain)
    assert YAML(typ="safe", pure=True).load(text) == plain
