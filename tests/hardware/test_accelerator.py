"""Accelerators: peaks, variations on them, and what is said about wrong ones."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from clustersim import library
from clustersim.errors import InputError
from clustersim.hardware import reference
from clustersim.hardware.accelerator import Accelerator, AcceleratorRef, load_accelerator
from clustersim.hardware.node import Node, NodeRef
from clustersim.kinds import Value, inline_schema
from clustersim.yaml_file import parse_yaml, problems_of


class Fleet(Value):
    accelerator: AcceleratorRef
    spare: AcceleratorRef | None = None
    node: NodeRef | None = None


def said(text: str) -> str:
    document = parse_yaml(text, "fleet.yaml")
    with pytest.raises(ValidationError) as caught:
        Fleet.model_validate(document.data)
    return "\n".join(map(str, problems_of(caught.value, document, Fleet)))


def test_h100() -> None:
    h100 = load_accelerator("h100-sxm")
    assert h100.memory_bandwidth_bytes_per_s.value == pytest.approx(3.35e12)
    assert h100.rental_usd_per_s is not None
    assert h100.rental_usd_per_s.value == pytest.approx(1.99 / 3600)
    assert h100.kernel_launch_s.value == pytest.approx(4.5e-6)


@pytest.mark.parametrize(
    ("precision", "peak"), [("bf16", 989e12), ("fp16", 989e12), ("fp8", 1979e12), ("fp32", 67e12)]
)
def test_peaks(precision: str, peak: float) -> None:
    assert load_accelerator("h100-sxm").peak_flops_per_s(precision).value == pytest.approx(peak)


@pytest.mark.parametrize("precision", ["fp4", "mxfp4", "fp12", ""])
def test_no_such_peak(precision: str) -> None:
    with pytest.raises(KeyError, match="h100-sxm has no"):
        load_accelerator("h100-sxm").peak_flops_per_s(precision)


def test_microscaling_runs_at_the_plain_rate() -> None:
    b200 = load_accelerator("b200-sxm")
    assert b200.peak_flops_per_s("mxfp4") == b200.peak_flops_per_s("fp4")


def test_by_name() -> None:
    assert Fleet.model_validate({"accelerator": "l4"}).accelerator is load_accelerator("l4")


def test_variation() -> None:
    given = {"accelerator": {"base": "h100-sxm", "memory_bandwidth": "6 TB/s"}}
    varied = Fleet.model_validate(given).accelerator
    base = load_accelerator("h100-sxm")
    assert varied.name == "h100-sxm*"
    assert varied.memory_bandwidth_bytes_per_s.value == pytest.approx(6e12)
    assert varied.memory_bandwidth_bytes_per_s.evidence == "assumed"
    assert varied.memory_bandwidth_bytes_per_s.source == "given by the user"
    assert varied.memory_bytes == base.memory_bytes
    assert base.memory_bandwidth_bytes_per_s.value == pytest.approx(3.35e12)
    assert given["accelerator"] == {"base": "h100-sxm", "memory_bandwidth": "6 TB/s"}


def test_variation_by_field_name_with_its_own_name_and_source() -> None:
    bandwidth = {"value": "6 TB/s", "evidence": "published", "source": "a roadmap", "date": "2026-01-01"}
    given = {"base": "h100-sxm", "name": "h100-next", "memory_bandwidth_bytes_per_s": bandwidth, "fp8": None}
    varied = Fleet.model_validate({"accelerator": given}).accelerator
    assert varied.name == "h100-next"
    assert varied.memory_bandwidth_bytes_per_s.source == "a roadmap"
    assert "fp8" not in varied.precisions


def test_variation_of_nothing_is_the_base() -> None:
    assert Fleet.model_validate({"accelerator": {"base": "l4"}}).accelerator == load_accelerator("l4")


def test_node_varied_within() -> None:
    given = {"base": "hgx-h100", "accelerator": {"base": "h100-sxm", "memory_bandwidth": "6 TB/s"}}
    node = Fleet.model_validate({"accelerator": "l4", "node": given}).node
    assert isinstance(node, Node)
    assert (node.name, node.accelerator.name, node.count) == ("hgx-h100*", "h100-sxm*", 8)


def test_dump_stands_alone() -> None:
    fleet = Fleet.model_validate(
        {"accelerator": {"base": "l4", "tdp": "80 W"}, "spare": "a30", "node": "dgx-h100"}
    )
    dump = fleet.model_dump(mode="json")
    assert dump["accelerator"]["tdp"] == {
        "value": "80 W", "evidence": "assumed", "source": "given by the user", "date": "",
    }  # fmt: skip
    assert dump["node"]["accelerator"]["bf16"]["value"] == "989 TFLOP/s"
    assert Fleet.model_validate(dump) == fleet


def test_unknown_name() -> None:
    text = said("accelerator: h100-sxn")
    assert text.startswith('fleet.yaml:1: accelerator: no accelerator "h100-sxn". Did you mean "h100-sxm"')
    assert text.endswith(f"All {len(library.names('accelerators'))}: clustersim list accelerators")


def test_unknown_base() -> None:
    text = said("accelerator:\n  memory: 1 TB\n  base: h100-sxn")
    assert text.startswith(
        'fleet.yaml:3: accelerator.base: no accelerator "h100-sxn". Did you mean "h100-sxm"'
    )


def test_unknown_key_of_a_variation() -> None:
    text = said("accelerator:\n  base: h100-sxm\n  memory_bandwith: 6 TB/s")
    assert "fleet.yaml:3: accelerator.memory_bandwith" in text
    assert '"memory_bandwidth"' in text


def test_unknown_name_within_an_optional_node() -> None:
    text = said("accelerator: l4\nnode:\n  base: hgx-h100\n  nic: ib-ndx")
    assert text.startswith('fleet.yaml:4: node.nic: no link "ib-ndx". Did you mean "ib-ndr"')


@pytest.mark.parametrize("given", ["3", "[h100-sxm]", "{memory: 80 GB}", "{}"])
def test_neither_name_nor_variation(given: str) -> None:
    assert "accelerator wants a name" in said(f"accelerator: {given}")


@pytest.mark.parametrize(
    ("given", "why"),
    [("-6 TB/s", "zero"), ("6", "no unit"), ("6 TB", "not a bandwidth"), ("0 TB/s", "above zero")],
)
def test_wrong_figure_of_a_variation(given: str, why: str) -> None:
    text = said(f"accelerator:\n  base: h100-sxm\n  memory_bandwidth: {given}")
    assert text.startswith("fleet.yaml:3: accelerator.memory_bandwidth")
    assert why in text


def test_idle_above_tdp() -> None:
    assert "idle power" in said("accelerator:\n  base: h100-sxm\n  tdp: 50 W")


def test_wrong_object() -> None:
    with pytest.raises(ValidationError, match="accelerator wants a name"):
        Fleet.model_validate({"accelerator": load_accelerator})


def test_unknown_file() -> None:
    with pytest.raises(InputError, match=r'no accelerator "h200"\. Did you mean'):
        load_accelerator("h200")


@pytest.mark.parametrize(
    ("old", "new", "line", "why"),
    [
        ("80 GB", "-80 GB", 11, "zero or more"),
        ("80 GB", "80", 11, "no unit"),
        ("kind: gpu", "kind: gpo", 5, "Input should be 'gpu'"),
        ("name: mine", "name: yours", 2, 'must be the name of the file, "mine"'),
        ("tdp:", "tpd:", 13, 'Did you mean "tdp"'),
    ],
)
def test_wrong_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: str, new: str, line: int, why: str
) -> None:
    figure = '{{value: {}, evidence: datasheet, source: "maker", date: "2026-01-01"}}'.format
    text = "\n".join(
        [
            "# mine", "name: mine", "vendor: Me", "year: 2026", "kind: gpu", "",
            f"bf16: {figure('1 PFLOP/s')}", f"fp8: {figure('2 PFLOP/s')}",
            f"kernel_launch: {figure('4 us')}", "",
            f"memory: {figure('80 GB')}", f"memory_bandwidth: {figure('3 TB/s')}",
            f"tdp: {figure('700 W')}", f"idle: {figure('80 W')}",
        ]
    )  # fmt: skip
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    monkeypatch.setattr(library, "find", lambda shelf, name: file)
    load = reference._load.__wrapped__
    assert load("accelerators", Accelerator, "mine").model_dump()["name"] == "mine"
    file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load("accelerators", Accelerator, "mine")
    assert f"mine.yaml:{line}" in str(caught.value)
    assert why in str(caught.value)


def test_schema_offers_names_files_variations_and_the_whole() -> None:
    name, file, variation, whole = inline_schema(Fleet)["properties"]["accelerator"]["anyOf"]
    assert "h100-sxm" in name["enum"]
    assert re.search(file["pattern"], "./mine.yaml")
    assert not any(re.search(file["pattern"], known) for known in name["enum"])
    assert variation["required"] == ["base"]
    assert "memory_bandwidth" in whole["properties"]
