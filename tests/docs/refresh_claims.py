"""Write the table of docs/background/claims.md anew: python tests/docs/refresh_claims.py."""

from __future__ import annotations

from pathlib import Path

from clustersim.report.claims_html import markdown
from clustersim.study.claims import check, load_claims

PAGE = Path(__file__).parents[2] / "docs" / "background" / "claims.md"
BEGIN, END = "<!-- claims -->\n", "<!-- /claims -->\n"


def renewed(text: str, table: str) -> str:
    """Return the page with the table between its marks."""
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}{table}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(renewed(page, markdown(check(load_claims()))), encoding="utf-8")
