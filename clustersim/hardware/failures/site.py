"""A site fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from clustersim.errors import unknown
from clustersim.hardware.failures import Extent, Failure, Harm, Outage, Weakening
from clustersim.kinds import register


@register("failure")
class SiteFailure(Failure):
    """A whole site loses its power, or only its network to the world.

    Without power every replica there dies. Without network what they have goes on, but no new request reaches them, and
    nothing passes between this site and others.

    Published: sites of tier III are down 1.6 h a year, tier IV 0.4 h (99.982 % and 99.995 %; Uptime Institute, "Tier
    Classifications Define Site Infrastructure Performance", 2006): about one outage of four hours in two and a half
    years, and one in ten.
    """

    kind: Literal["site"] = "site"
    site: str | None = None
    """Name of the site; any of the fleet's if not given."""
    only_network: bool = False
    examples: ClassVar[tuple[dict[str, object], ...]] = (
        {"at": ["10 min"], "repair": "20 min"},
        {"at": ["10 min"], "repair": "5 min", "only_network": True},
        {"mtbf": "2.5 years", "repair": "4 h"},
    )

    def things(self, extents: Sequence[Extent]) -> list[tuple[Harm, ...]]:
        """See Failure."""
        sites = [site for site in dict.fromkeys(each.site for each in extents) if self.site in (None, site)]
        if self.only_network:
            return [(Weakening(0.0, site=site),) for site in sites]
        return [
            tuple(
                Outage(each.cluster, tuple(range(each.num_nodes)), memory=True)
                for each in extents
                if each.site == site
            )
            for site in sites
        ]

    def problems(self, extents: Sequence[Extent]) -> Iterator[tuple[str, str]]:
        """See Failure."""
        names = list(dict.fromkeys(extent.site for extent in extents))
        if self.site is not None and self.site not in names:
            yield "site", unknown("site", self.site, names)
