"""A price of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from clustersim.economics.prices import Cost, Price
from clustersim.kinds import register
from clustersim.units import UsdPerSecond


@register("price")
class Fixed(Price):
    """A rate that the user gives; electricity is added at the site's price unless it is included."""

    kind: Literal["fixed"] = "fixed"
    rate_usd_per_s: UsdPerSecond
    """For one accelerator."""
    includes_energy: bool = True
    examples: ClassVar[tuple[dict[str, object], ...]] = ({"rate": "2 USD/h"},)

    def cost(self, published: Mapping[str, Cost]) -> Cost:  # noqa: ARG002 - the contract of every price
        """See Price."""
        return Cost(self.rate_usd_per_s, self.includes_energy, "assumed", "given by the user")
