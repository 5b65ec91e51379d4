"""What clustersim says to a person whose input it cannot use."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One mistake in an input: where it is (`file:line: key.path`) and what is wrong, with the mend."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class InputError(ValueError):
    """Raised for an input that cannot be used; carries every problem found. The CLI exits with 2."""

    def __init__(self, problems: Iterable[Problem] | str) -> None:
        self.problems = [Problem("", problems)] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(map(str, self.problems)))


def unknown(noun: str, name: object, choices: Iterable[str], see: str = "") -> str:
    """Say that `name` is no known `noun`: the nearest choices, then all of them (or where to see them)."""
    names = sorted(choices)
    near = difflib.get_close_matches(str(name).lower(), names, n=3, cutoff=0.5)
    text = f'no {noun} "{name}".'
    if near:
        text += " Did you mean " + " or ".join(f'"{n}"' for n in near) + "?"
    if len(names) <= 12:
        text += f" Choices: {', '.join(names)}."
    elif see:
        text += f" All {len(names)}: {see}"
    else:
        text += f" All {len(names)}: {', '.join(names)}."
    return text
