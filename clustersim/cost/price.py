"""What an accelerator costs by time, as published."""

from __future__ import annotations

from collections.abc import Mapping

from clustersim.economics.prices import Cost
from clustersim.hardware.accelerator import Accelerator


def published_prices(device: Accelerator) -> Mapping[str, Cost]:
    """Return the published rates of an accelerator, by the kind of price that uses them."""
    figures = {
        "tco_neocloud": device.tco_neocloud_usd_per_s,
        "tco_hyperscaler": device.tco_hyperscaler_usd_per_s,
        "rental": device.rental_usd_per_s,
    }
    return {
        name: Cost(figure.value, True, figure.evidence, figure.source)
        for name, figure in figures.items()
        if figure is not None
    }
