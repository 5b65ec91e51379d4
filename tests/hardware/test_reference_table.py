"""The built-in specs agree with the reference table from which they were written, where it is at hand."""

import csv
import re
from pathlib import Path

import pytest

from clustersim import library
from clustersim.hardware.accelerator import load_accelerator
from clustersim.hardware.node import load_node
from clustersim.units import GIGA, HOUR_S, KILO, TERA

TABLE = Path(__file__).parents[3] / "shared" / "reference" / "hardware.csv"
pytestmark = pytest.mark.skipif(not TABLE.exists(), reason="the reference table is not beside the repository")

#: Column -> (field, what one of the column's units is in SI).
COLUMNS = {
    "fp32_tflops": ("fp32_flops_per_s", TERA),
    "tf32_tflops": ("tf32_flops_per_s", TERA),
    "bf16_tflops": ("bf16_flops_per_s", TERA),
    "fp8_tflops": ("fp8_flops_per_s", TERA),
    "int8_tops": ("int8_flops_per_s", TERA),
    "fp4_tflops": ("fp4_flops_per_s", TERA),
    "mem_gb": ("memory_bytes", GIGA),
    "mem_bw_gbps": ("memory_bandwidth_bytes_per_s", GIGA),
    "mamf_bf16_frac": ("matmul_frac", 1.0),
    "tdp_w": ("tdp_w", 1.0),
    "allin_kw_per_dev": ("allin_w", KILO),
    "price_usd": ("price_usd", 1.0),
    "tco_hyperscaler_usd_h": ("tco_hyperscaler_usd_per_s", 1 / HOUR_S),
    "tco_neocloud_usd_h": ("tco_neocloud_usd_per_s", 1 / HOUR_S),
    "rental_usd_h": ("rental_usd_per_s", 1 / HOUR_S),
}
#: Departures on purpose: the share that was published for the MI355X is of 2300 TFLOP/s, its peak is 2516.
DEPARTURES = {("mi355x", "mamf_bf16_frac"): 0.68 * 2300 / 2516}
#: Departures on purpose: where a driver was seen to report its memory, that is what an engine can take, and not the
#: round figure it is sold under (an "80 GB" H100 holds 81559 MiB, which is 85.5 GB; a "288 GB" B300 275040 MiB).
MEMORY_OF_DRIVER = {
    "a100-pcie-80gb", "a100-sxm-40gb", "a100-sxm-80gb", "b200-sxm", "b300-sxm", "gb200-nvl72", "gb300-nvl72", "h100-sxm",
    "h200-sxm", "h800-sxm", "l4", "l40s", "mi300x", "rtx-4090", "rtx-pro-6000-server",
}  # fmt: skip


def spec_name(name: str) -> str:
    plain = name.lower().replace("(announced)", "").replace("+", "")
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def rows() -> dict[str, dict[str, str]]:
    if not TABLE.exists():
        return {}
    with TABLE.open(encoding="utf-8") as file:
        return {spec_name(row["name"]): row for row in csv.DictReader(file)}


def test_every_row_has_a_file() -> None:
    assert set(rows()) == set(library.names("accelerators")) - {"local-cpu"}


@pytest.mark.parametrize("name", rows())
def test_values_agree(name: str) -> None:
    row, accelerator = rows()[name], load_accelerator(name)
    assert (accelerator.vendor, accelerator.year) == (row["vendor"], int(row["year"]))
    for column, (field, scale) in COLUMNS.items():
        figure = getattr(accelerator, field)
        if row[column]:
            expected = DEPARTURES.get((name, column), float(row[column]) * scale)
            if column == "mem_gb" and name in MEMORY_OF_DRIVER:
                assert figure.evidence == "published"
                assert figure.value == pytest.approx(expected, rel=0.08)
                continue
            assert figure.value == pytest.approx(expected, rel=1e-3 if (name, column) in DEPARTURES else 1e-9)
        elif field != "tdp_w":  # needed to account for energy, so assumed where none is published
            assert figure is None, column
        else:
            assert figure.evidence == "assumed"


@pytest.mark.parametrize("name", library.names("nodes"))
def test_scale_up_agrees(name: str) -> None:
    node = load_node(name)
    if node.accelerator.needs_profile:
        return
    row = rows()[node.accelerator.name]
    if node.scale_up is None or name == "trainium2-ultra-64":
        return
    assert node.scale_up.bandwidth_bytes_per_s.value == pytest.approx(
        float(row["scaleup_gbps_per_dir"]) * GIGA
    )
