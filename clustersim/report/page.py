"""A page: one HTML file that needs nothing else, neither a server nor the network; see templates/page.html."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clustersim.versions import version_of

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
#: Stands in a page where Plotly's script comes.
_PLOTLY = "/* plotly.js */"


def render(template: str, **values: Any) -> str:
    """Return the page that a template makes of values; whatever of them is text stays text.

    A template takes styles and scripts by `part(file)`, and Plotly's own by `plotly()`. A page that draws is given
    `figures`: element id -> plot as plain data. Raises jinja2.UndefinedError for a value that a template wants and
    nobody gave.
    """
    return b"".join(pieces(template, **values)).decode()


def pieces(template: str, **values: Any) -> list[bytes]:
    """Return the same in UTF-8, in pieces: Plotly's script is nearly all of a page, and need not be copied into it."""
    text = _environment().get_template(template).render(**values)
    if "figures" not in values:  # a page that draws nothing has no such script
        return [text.encode()]
    before, _, after = text.rpartition(_PLOTLY)  # the last: what comes after it is no user's
    return [before.encode(), _plotly(), after.encode()]


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.globals |= {"version": version_of("clustersim"), "part": _part, "plotly": lambda: _PLOTLY}
    environment.filters["script_json"] = _script_json
    return environment


def _part(name: str) -> Markup:
    """Return a style or a script that lies beside the templates, as it stands."""
    from markupsafe import Markup

    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


@cache
def _plotly() -> bytes:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).encode()


def _script_json(value: Any) -> Markup:
    """Return JSON that cannot end the script element it stands in. Raises ValueError for a number that JSON lacks."""
    from markupsafe import Markup

    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
