"""The way between two sites."""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt

from clustersim.errors import InputError
from clustersim.hardware.site import Site

#: Light in glass, one way: c / 1.468.
FIBRE_S_PER_M = 4.9e-9
#: Length of a cable over the great circle, assumed; 1.3 to 1.5 is usual.
ROUTE_FACTOR = 1.4
_EARTH_M = 6.371e6


def distance_m(one: Site, other: Site) -> float:
    """Return the great-circle distance in metres (haversine); raises InputError for a site without a place."""
    (north, east), (other_north, other_east) = _radians(one), _radians(other)
    half = sin((other_north - north) / 2) ** 2
    half += cos(north) * cos(other_north) * sin((other_east - east) / 2) ** 2
    return 2 * _EARTH_M * asin(sqrt(half))


def fibre_latency_s(one: Site, other: Site) -> float:
    """Return the seconds of light in fibre from one site to another: distance x 1.4 x 4.9 ns a metre."""
    return distance_m(one, other) * ROUTE_FACTOR * FIBRE_S_PER_M


def _radians(site: Site) -> tuple[float, float]:
    if site.latitude_deg is None or site.longitude_deg is None:
        raise InputError(
            f'site "{site.name}" has no latitude and longitude, which tell how far it is from the others; '
            f"give them: site: {{base: {site.name.rstrip('*')}, latitude_deg: 41, longitude_deg: -96}}"
        )
    return radians(site.latitude_deg), radians(site.longitude_deg)
