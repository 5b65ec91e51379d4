"""Prices that the accelerator's specification carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from clustersim.economics.prices import Cost, Price
from clustersim.kinds import register


@register("price")
class TcoNeocloud(Price):
    """Total cost of ownership of a GPU cloud, electricity included, as published for the accelerator."""

    kind: Literal["tco_neocloud"] = "tco_neocloud"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({},)

    def cost(self, published: Mapping[str, Cost]) -> Cost | None:
        """See Price."""
        return published.get(self.kind)


@register("price")
class TcoHyperscaler(Price):
    """Total cost of ownership of a hyperscaler, electricity included, as published for the accelerator."""

    kind: Literal["tco_hyperscaler"] = "tco_hyperscaler"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({},)

    def cost(self, published: Mapping[str, Cost]) -> Cost | None:
        """See Price."""
        return published.get(self.kind)


@register("price")
class Rental(Price):
    """The market's rental rate, electricity included, as published for the accelerator."""

    kind: Literal["rental"] = "rental"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({},)

    def cost(self, published: Mapping[str, Cost]) -> Cost | None:
        """See Price."""
        return published.get(self.kind)
