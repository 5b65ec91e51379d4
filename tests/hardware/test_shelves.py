"""Every built-in spec loads, says where each figure is from, and survives being written and read back."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from clustersim import library
from clustersim.hardware.accelerator import Accelerator
from clustersim.hardware.figure import Figure
from clustersim.hardware.link import Link
from clustersim.hardware.node import Node
from clustersim.hardware.reference import load
from clustersim.hardware.site import Site
from clustersim.kinds import Value

SHELVES: dict[str, type[Value]] = {"accelerators": Accelerator, "links": Link, "nodes": Node, "sites": Site}
SPECS = [(shelf, name) for shelf in SHELVES for name in library.names(shelf)]


def figures(value: BaseModel, path: str = "") -> Iterator[tuple[str, Figure[Any]]]:
    for name in type(value).model_fields:
        field = getattr(value, name)
        if isinstance(field, Figure):
            yield f"{path}{name}", field
        elif isinstance(field, BaseModel):
            yield from figures(field, f"{path}{name}.")


@pytest.mark.parametrize(("shelf", "name"), SPECS)
def test_loads_with_sources(shelf: str, name: str) -> None:
    spec = load(shelf, SHELVES[shelf], name)
    found = dict(figures(spec))
    assert found
    for field, figure in found.items():
        assert figure.source.strip(), field
        assert "given" not in figure.source, field
        assert figure.date, field


@pytest.mark.parametrize(("shelf", "name"), SPECS)
def test_written_and_read_back(shelf: str, name: str) -> None:
    spec = load(shelf, SHELVES[shelf], name)
    assert SHELVES[shelf].model_validate(spec.model_dump(mode="json")) == spec
    assert SHELVES[shelf].model_validate_json(spec.model_dump_json()) == spec


def test_every_figure_writes_its_evidence() -> None:
    from clustersim.yaml_file import read_yaml

    for shelf, name in SPECS:
        document = read_yaml(library.find(shelf, name))
        for key, value in document.data.items():
            if isinstance(value, dict):
                assert {"value", "evidence", "source", "date"} == set(value), str(document.place((key,)))


def test_enough_to_choose_from() -> None:
    assert len(library.names("accelerators")) >= 41
    assert len(library.names("links")) >= 25
    assert len(library.names("nodes")) >= 20
    assert len(library.names("sites")) >= 25


def test_loaded_once() -> None:
    assert load("links", Link, "nvlink4") is load("links", Link, "nvlink4")


def test_every_accelerator_has_a_node() -> None:
    nodes = [load("nodes", Node, name) for name in library.names("nodes")]
    assert {node.accelerator.name for node in nodes} == set(library.names("accelerators"))
    for node in nodes:
        assert node.accelerator.host_link_bytes_per_s is not None or node.host_link is None
