"""Print the tables of docs/validation.md: python tests/validation/tables.py serving.csv [--jobs N] [--page FILE]

With --page the tables of that page are written anew, each below its `<!-- table: TITLE -->`; numbers in prose are not.
They are those of `clustersim validate serving`, by short names of sources, and apart for the half of the rows on which
host constants were fitted and the half that was held back.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from measured import family_of, half_of

from clustersim.study.validation import ServingValidation, validate_serving
from clustersim.study.validation.errors import Scored, by, errors_of

_HEADS = ("rows", "median", "p90", "signed", "baseline median", "p90")
Key = Callable[[Scored], str]


def quantity(scored: Scored) -> str:
    """Return what a row is of: TTFT, TPOT, ..."""
    return scored.prediction.metric.quantity


def half(scored: Scored) -> str:
    """Return the half a row falls in, in words."""
    return {"fit": "fitted on", "test": "held back"}[half_of(scored.row.group_id)]


TABLES: Sequence[tuple[str, dict[str, Key]]] = (
    ("Overall", {"metric": quantity}),
    ("Quality A and A-", {"metric": lambda each: quantity(each) if each.row.quality in ("A", "A-") else ""}),
    ("Was it fitted to these rows?", {"metric": quantity, "half": half}),
    ("By engine", {"engine": lambda each: each.row.engine, "metric": quantity}),
    (
        "By source",
        {
            "source": lambda each: family_of(each.row.source),
            "engine": lambda each: each.row.engine,
            "metric": quantity,
        },
    ),
    ("By GPU", {"GPU": lambda each: each.row.gpu, "metric": quantity}),
    ("By model", {"model": lambda each: each.row.model, "metric": quantity}),
)


def markdown(scored: Sequence[Scored], keys: dict[str, Key]) -> str:
    """Return a table of errors by some keys; rows whose first key is empty are left out."""
    groups = by(scored, lambda each: "\0".join(key(each) for key in keys.values()))
    lines = [f"| {' | '.join([*keys, *_HEADS])} |", "|---" * (len(keys) + len(_HEADS)) + "|"]
    for name, rows in groups.items():
        if name:
            found = errors_of(rows)
            numbers = (found.median_ape_pct, found.p90_ape_pct, found.median_signed_pct,
                       found.baseline_median_ape_pct, found.baseline_p90_ape_pct)  # fmt: skip
            cells = [*name.split("\0"), str(found.n), *(f"{number:.1f}" for number in numbers)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def page(found: ServingValidation) -> str:
    """Return every table and count that the page quotes."""
    parts = [
        f"{found.rows_total} rows, {found.rows_simulated} simulated, {len(found.refused)} refused; "
        f"constant {found.constant:.2f}; {found.num_beyond_the_roofline} beyond the roofline"
    ]
    parts += [f"## {title}\n\n{markdown(found.scored, keys)}" for title, keys in TABLES]
    for title, counted in (("Assumed", found.assumptions), ("Refused", found.reasons)):
        parts.append(f"## {title}\n\n" + "\n".join(f"- {times}: {text}" for text, times in counted))
    return "\n\n".join(parts)


def renewed(text: str, scored: Sequence[Scored]) -> str:
    """Return a page with its tables written anew."""
    for title, keys in TABLES:
        marked = re.compile(rf"(<!-- table: {re.escape(title)} -->\n\n)(?:\|.*\n)*")
        table = markdown(scored, keys)
        text = marked.sub(lambda found, table=table: f"{found[1]}{table}\n", text)  # type: ignore[misc]
    return text


def main() -> None:
    """Predict and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("csv", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--page", type=Path, help="page whose tables are written anew")
    options = parser.parse_args()
    found = validate_serving(options.csv, jobs=options.jobs)
    print(page(found))
    if options.page:
        options.page.write_text(
            renewed(options.page.read_text(encoding="utf-8"), found.scored), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
