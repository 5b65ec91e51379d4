"""Where the numbers of a check come from: figures of the library, or values that the claim's file gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from clustersim.errors import InputError, unknown
from clustersim.hardware.accelerator import load_accelerator
from clustersim.hardware.figure import Figure
from clustersim.hardware.link import load_link
from clustersim.hardware.node import load_node
from clustersim.hardware.site import load_site
from clustersim.models.hf_config import load_model
from clustersim.study.claims.claim import Input
from clustersim.study.claims.formula import quantity, show
from clustersim.units import si, write

if TYPE_CHECKING:
    from pint import Quantity

_SHELVES: Mapping[str, Callable[[str], object]] = MappingProxyType(
    {
        "accelerators": load_accelerator,
        "nodes": load_node,
        "links": load_link,
        "sites": load_site,
        "models": load_model,
    }
)
#: End of a field's name -> the unit that its value is in; the first that fits.
_UNITS: Mapping[str, str] = MappingProxyType(
    {
        "_flops_per_s": "FLOP/s", "_bytes_per_s": "B/s", "_usd_per_s": "USD/s", "_usd_per_j": "USD/J",
        "_g_per_j": "g/J",
        "_l_per_j": "L/J", "_bytes": "B", "bytes_per_token": "B", "_w": "W", "_s": "s", "_usd": "USD",
    }
)  # fmt: skip


#: Units that are shown with an SI prefix.
_PREFIXED = ("FLOP/s", "B/s", "B", "W", "s")


@dataclass(frozen=True)
class Known:
    """A number with how it is known."""

    quantity: Quantity[Any]
    shown: str
    evidence: str
    source: str


def resolve(given: Input) -> Known:
    """Return the number that an input names; raises InputError with the nearest names."""
    if given.library is None:
        assert given.value is not None
        shown = given.value if isinstance(given.value, str) else show(given.value, "1")
        return Known(quantity(given.value), shown, given.evidence or "", given.source or "")
    shelf, _, rest = given.library.partition("/")
    name, _, field = rest.partition("/")
    if shelf not in _SHELVES or not field:
        known = ", ".join(_SHELVES)
        raise InputError(f'"{given.library}" is no figure; write SHELF/NAME/FIELD, SHELF one of {known}')
    thing = _SHELVES[shelf](name)
    found = getattr(thing, field, None)
    if found is None:
        raise InputError(f"{shelf}/{name}: {unknown('figure', field, _figures(thing))}")
    if callable(found):
        found = found()
    unit = next((unit for end, unit in _UNITS.items() if field.endswith(end)), None)
    value = found.value if isinstance(found, Figure) else found
    if not isinstance(value, int | float):
        raise InputError(f"{given.library} is not a number; choose one of {', '.join(_figures(thing))}")
    shown = (
        show(value, "1") if unit is None else si(value, unit, 4) if unit in _PREFIXED else write(value, unit)
    )
    number = quantity(value) * quantity(f"1 {unit}" if unit else 1)
    if isinstance(found, Figure):
        return Known(number, shown, found.evidence, found.source)
    return Known(number, shown, "published", f"{shelf} of the library, {name}: {field}")


def _figures(thing: object) -> list[str]:
    """Return the fields and properties that hold numbers."""
    names = [name for name in dir(type(thing)) if not name.startswith(("_", "model_"))]
    names += list(getattr(type(thing), "model_fields", {}))
    return sorted({name for name in names if _is_number(thing, name)})


def _is_number(thing: object, name: str) -> bool:
    found = getattr(thing, name, None)
    return name == "kv_bytes_per_token" or isinstance(found, Figure | int | float)
