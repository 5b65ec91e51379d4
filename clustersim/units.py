"""The only converter between strings with units (YAML, tables) and SI floats (everything inside).

Inside: seconds, bytes, FLOP, watts, joules, dollars, grams, litres, metres. GB is 1e9 bytes, GiB 2**30.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic_core import PydanticCustomError, core_schema

from clustersim.errors import shortened

if TYPE_CHECKING:
    from pint import UnitRegistry

_PREFIXES = """
pico- = 1e-12 = p-
nano- = 1e-9 = n-
micro- = 1e-6 = u- = µ-
milli- = 1e-3 = m-
kilo- = 1e3 = k- = K-
mega- = 1e6 = M-
giga- = 1e9 = G-
tera- = 1e12 = T-
peta- = 1e15 = P-
exa- = 1e18 = E-
zetta- = 1e21 = Z-
yotta- = 1e24 = Y-
kibi- = 2**10 = Ki-
mebi- = 2**20 = Mi-
gibi- = 2**30 = Gi-
tebi- = 2**40 = Ti-
"""

_UNITS = """
second = [time] = s = sec = seconds
minute = 60 * second = min = minutes
hour = 3600 * second = h = hr = hours
day = 24 * hour = d = days
week = 7 * day = w = weeks
year = 365.25 * day = y = years
byte = [information] = B = bytes
bit = byte / 8 = b = bits
FLOP = [computation] = flop = OP
FLOPS = FLOP / second = OPS
joule = [energy] = J
watt = joule / second = W
watt_hour = watt * hour = Wh
USD = [currency] = dollar
gram = [mass] = g = gCO2e
tonne = 1e6 * gram = t
litre = [volume] = L = l
metre = [length] = m = meter
request = [] = req = requests
token = [] = tok = tokens
cycle = [] = cycles
"""


_LONGEST = 100
#: No unit here has a power, and a tower of them ("9**9**9 s") takes for ever to compute.
_POWERS = frozenset("^⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


@cache
def registry() -> UnitRegistry[Any]:
    """Return the unit registry: only the units this field uses, so that "5 m" is no time and "3 TB" no rate."""
    import pint

    units: UnitRegistry[Any] = pint.UnitRegistry(None, cache_folder=None)
    for line in (_PREFIXES + _UNITS).split("\n"):
        if line:
            units.define(line)
    return units


@cache
def parse(text: str, unit: str) -> float:
    """Return `text` ("3.35 TB/s") as a float in `unit` ("B/s").

    Raises ValueError in words a person can act on: no unit, an unknown unit, or one of another dimension.
    """
    import pint

    units = registry()
    if len(text) > _LONGEST or not _POWERS.isdisjoint(text) or "**" in text:
        raise ValueError(f'"{shortened(text, _LONGEST)}" is not a number with a unit')
    try:
        quantity = units.parse_expression(text)
    except pint.UndefinedUnitError as error:
        names = [error.unit_names] if isinstance(error.unit_names, str) else error.unit_names
        raise ValueError(f'"{text}" has the unknown unit "{", ".join(names)}"') from None
    except Exception:  # noqa: BLE001 - pint raises its parser's errors, of many types, for text that is no quantity
        raise ValueError(f'"{text}" is not a number with a unit') from None
    if not isinstance(quantity, pint.Quantity):
        if unit != "1":
            raise ValueError(f'"{text}" has no unit')
        return float(quantity)
    target = units.dimensionless if unit == "1" else units.parse_units(unit)
    try:
        return float(quantity.to(target).magnitude)
    except pint.DimensionalityError:
        if quantity.dimensionless and unit != "1":
            raise ValueError(f'"{text}" has no unit') from None
        raise ValueError(f'"{text}" is not {_DIMENSIONS.get(unit, "in " + unit)}') from None


_DIMENSIONS = {
    "s": "a time",
    "B": "an amount of memory",
    "B/s": "a bandwidth (bytes or bits a second)",
    "FLOP/s": "a compute rate (FLOP a second)",
    "FLOP": "a number of FLOP",
    "W": "a power",
    "USD": "an amount of money",
    "USD/s": "a price by time",
    "USD/J": "a price of energy",
    "1/s": "a rate (a number a second)",
    "g/J": "a carbon intensity (grams by energy)",
    "L/J": "a water use (litres by energy)",
    "m": "a length",
    "g": "a mass",
}

#: Units tried, in this order, when a value is written back; the shortest text that parses to the same float wins.
_WRITTEN = {
    "s": ("s", "ms", "us", "ns", "min", "h", "d"),
    "B": ("GB", "GiB", "MB", "kB", "TB", "B"),
    "B/s": ("GB/s", "TB/s", "Gb/s", "MB/s", "B/s"),
    "FLOP/s": ("TFLOP/s", "GFLOP/s", "PFLOP/s", "FLOP/s"),
    "FLOP": ("FLOP", "TFLOP", "EFLOP"),
    "W": ("W", "kW", "MW"),
    "USD": ("USD",),
    "USD/s": ("USD/h", "USD/s"),
    "USD/J": ("USD/kWh", "USD/J"),
    "1/s": ("req/s",),
    "g/J": ("g/kWh", "g/J"),
    "L/J": ("L/kWh", "L/J"),
    "m": ("m", "km"),
    "g": ("g", "kg"),
}


@cache
def _scale(unit: str, base: str) -> float:
    return parse(f"1 {unit}", base)


@cache
def write(value: float, unit: str) -> str:
    """Return `value` (in `unit`) as the shortest string with a unit that `parse` turns into the same float."""
    if math.isinf(value):
        return f"inf {unit}"
    texts = []
    for written in _WRITTEN.get(unit, (unit,)):
        number = f"{value / _scale(written, unit):.12g}"
        text = f"{number} {written}"
        if "e" not in number and parse(text, unit) == value:
            texts.append(text)
    return min(texts, key=len, default=f"{value!r} {unit}")


@dataclass(frozen=True)
class Quantity:
    """Marks a float field as a quantity: a string with a unit in YAML, a float in `unit` inside.

    A bare number is refused (except 0 and infinity, which are the same in every unit), a negative one too
    unless `signed`.
    """

    unit: str
    example: str
    positive: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.validate,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value if value is None else write(value, self.unit)
            ),
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {
            "type": "string",
            "description": f"{_DIMENSIONS.get(self.unit, self.unit)}, with its unit",
            "examples": [self.example],
        }

    def validate(self, value: object) -> float:
        """Return the value in SI; raises a pydantic error that names the mend."""
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self._refuse(f"{value!r} is not {_DIMENSIONS.get(self.unit, self.unit)}")
        if isinstance(value, str):
            try:
                number = parse(value.strip(), self.unit)
            except ValueError as error:
                raise self._refuse(str(error)) from None
        elif value == 0 or (isinstance(value, float) and math.isinf(value)):
            number = float(value)
        else:
            raise self._refuse(f"{value} has no unit")
        if math.isnan(number) or number < 0 or (self.positive and number == 0):
            raise self._refuse(f"{value} must be {'above zero' if self.positive else 'zero or more'}")
        return number

    def _refuse(self, why: str) -> PydanticCustomError:
        # Braces would be read as template fields by pydantic.
        text = f'{why}; write it like "{self.example}"'.replace("{", "(").replace("}", ")")
        return PydanticCustomError("quantity", text)


Seconds = Annotated[float, Quantity("s", "50 ms")]
PositiveSeconds = Annotated[float, Quantity("s", "1 h", positive=True)]
Bytes = Annotated[float, Quantity("B", "80 GB")]
BytesPerSecond = Annotated[float, Quantity("B/s", "3.35 TB/s", positive=True)]
FlopsPerSecond = Annotated[float, Quantity("FLOP/s", "989 TFLOP/s", positive=True)]
Watts = Annotated[float, Quantity("W", "700 W")]
Usd = Annotated[float, Quantity("USD", "25000 USD")]
UsdPerSecond = Annotated[float, Quantity("USD/s", "1.99 USD/h")]
UsdPerJoule = Annotated[float, Quantity("USD/J", "0.075 USD/kWh")]
GramsPerJoule = Annotated[float, Quantity("g/J", "369 g/kWh")]
LitresPerJoule = Annotated[float, Quantity("L/J", "1.1 L/kWh")]
Grams = Annotated[float, Quantity("g", "150 kg")]
PerSecond = Annotated[float, Quantity("1/s", "16 req/s", positive=True)]
Metres = Annotated[float, Quantity("m", "1000 km")]

#: The suffixes that names of quantities carry inside and lose in YAML (`ttft_s` is written `ttft: 2 s`).
SUFFIXES = (
    "_bytes_per_s", "_flops_per_s", "_usd_per_s", "_usd_per_j", "_g_per_j", "_l_per_j", "_per_s",
    "_bytes", "_flops", "_w", "_j", "_usd", "_frac", "_g", "_m", "_s",
)  # fmt: skip


def yaml_name(field: str) -> str:
    """Return the key by which YAML writes the field `field`: its name without the unit suffix."""
    for suffix in SUFFIXES:
        if field.endswith(suffix):
            return field[: -len(suffix)]
    return field


# Multipliers for code that must print or read a bare number in a named unit.
GIGA = 1e9
TERA = 1e12
MEGA = 1e6
KILO = 1e3
MILLI = 1e-3
MICRO = 1e-6
GIB = 2.0**30
HOUR_S = 3600.0
DAY_S = 86400.0
KWH_J = 3.6e6


_SCALES = tuple(zip((10.0**n for n in range(-9, 25, 3)), ("n", "u", "m", "", *"kMGTPEZY"), strict=True))
#: From where on a number takes each prefix: what rounds to 1000 takes the next.
_FROM = [scale * 0.9995 for scale, _ in _SCALES]


def si(value: float, unit: str = "", digits: int = 3) -> str:
    """Return a number with an SI prefix for people: 3.35e12, "B/s" gives "3.35 TB/s"."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}".strip()
    scale, prefix = _SCALES[max(0, bisect_right(_FROM, abs(value)) - 1)]
    return f"{value / scale:.{digits}g} {prefix}{unit}".strip()


def duration(seconds: float) -> str:
    """Return a time for people: "35 us", "34.1 ms", "7.1 min", "3.0 h"."""
    if not math.isfinite(seconds):
        return "unbounded"
    for limit, scale, unit in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172800.0, 3600.0, "h")):
        if seconds < limit:
            return si(seconds, "s") if scale == 1.0 and seconds < 1 else f"{seconds / scale:.3g} {unit}"
    return f"{seconds / DAY_S:.3g} d"
