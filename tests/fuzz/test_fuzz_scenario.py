"""Scenarios broken at random: each is loaded, or refused in words; nothing else, and not for long."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from guard import takes_or_refuses
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import broken, keys_of, mutated
from ruamel.yaml import YAML

from clustersim import library
from clustersim.scenario.load import parse_with_places
from clustersim.scenario.plan import plan
from clustersim.yaml_file import Document, parse_yaml, read_yaml

NAMES = library.names("scenarios")
DOCUMENTS = {name: read_yaml(library.find("scenarios", name)) for name in NAMES}
TEXTS = {name: library.find("scenarios", name).read_bytes() for name in NAMES}
ALL = tuple(document.data for document in DOCUMENTS.values())


def loads(document: Document, *changes: str) -> None:
    """Load a document and plan it: all that `clustersim check` does."""
    with takes_or_refuses():
        scenario, places = parse_with_places(document, changes)
        plan(scenario, places)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Return a shipped scenario with its parts broken; its places are those of the sound one."""
    sound = DOCUMENTS[draw(st.sampled_from(NAMES))]
    return Document(draw(mutated(sound.data, ALL)), sound.places, sound.file)


@settings(max_examples=300)
@given(documents())
def test_parts_of_scenarios_broken(document: Document) -> None:
    loads(document)


@settings(max_examples=150)
@given(st.sampled_from(NAMES).flatmap(lambda name: broken(TEXTS[name])))
def test_texts_of_scenarios_broken(text: bytes) -> None:
    read_as_text(text)


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_at_all(text: bytes) -> None:
    read_as_text(text)


def read_as_text(text: bytes) -> None:
    """Load what a file of these bytes says."""
    with takes_or_refuses():
        loads(parse_yaml(text.decode("utf-8", errors="surrogateescape"), "broken.yaml"))


@st.composite
def settings_of(draw: st.DrawFn) -> tuple[Document, str]:
    """Return a shipped scenario and a setting for it: a key that it has, more or less, and some value."""
    document = DOCUMENTS[draw(st.sampled_from(NAMES))]
    steps = list(draw(st.sampled_from(keys_of(document.data)[1:])))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(steps)))
        steps[place : place + 1] = [
            draw(st.sampled_from(("", "0", "9" * 20, "²", "-1", "kind", "name", "x", "..")))
        ]
    value = draw(
        st.one_of(
            st.text(max_size=12), st.sampled_from(("0", "-1", "1e999", "[", "{a: b}", "*a", "none", "5 s"))
        )
    )
    return document, f"{'.'.join(map(str, steps))}={value}"


@settings(max_examples=150)
@given(settings_of())
def test_settings_broken(asked: tuple[Document, str]) -> None:
    document, setting = asked
    loads(document, setting)


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_written_again_is_the_same(name: str, tmp_path: Path) -> None:
    """The mutations start from data that is what the file says."""
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(DOCUMENTS[name].data, stream)
    again: Any = parse_yaml(stream.getvalue()).data
    assert again == DOCUMENTS[name].data
