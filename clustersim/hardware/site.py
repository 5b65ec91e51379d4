"""A site: where a fleet stands, and what its energy costs in money, carbon and water."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from clustersim.hardware.figure import Figure
from clustersim.hardware.reference import Ref, load
from clustersim.kinds import Value
from clustersim.units import GramsPerJoule, LitresPerJoule, UsdPerJoule

PowerUsageEffectiveness = Annotated[float, Field(ge=1.0)]


class Site(Value):
    """A data centre's location: prices and intensities are per joule drawn from the grid, water apart."""

    name: str
    description: str
    latitude_deg: Annotated[float, Field(ge=-90.0, le=90.0)] | None = None
    """Of the town or region, to a degree or so: enough for distances between sites."""
    longitude_deg: Annotated[float, Field(ge=-180.0, le=180.0)] | None = None
    electricity_usd_per_j: Figure[UsdPerJoule]
    pue: Figure[PowerUsageEffectiveness]
    """Power usage effectiveness: energy of the facility over energy of the IT equipment."""
    carbon_g_per_j: Figure[GramsPerJoule]
    """Grams of CO2 equivalent by energy of the grid, location-based, operation only."""
    water_l_per_j: Figure[LitresPerJoule] | None = None
    """Water used on site by energy of the IT equipment (WUE); that of power stations is not in it."""


SiteRef = Annotated[Site, Ref("sites")]


def load_site(name: str) -> Site:
    """Return a built-in site; raises InputError with the nearest names."""
    return load("sites", Site, name)
