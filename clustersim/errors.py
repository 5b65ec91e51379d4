"""What clustersim says to a person whose input it cannot use, and where it finds itself to be wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

_SHOWN = 80  # characters of a name that is not known
_LONGEST_PLACE = 400
_COMPARED = 200  # longer names are near to none


@dataclass(frozen=True)
class Problem:
    """One mistake in an input: where it is (`file:line: key.path`) and what is wrong, with the mend."""

    where: str
    what: str

    def __str__(self) -> str:
        where = shortened(self.where, _LONGEST_PLACE)
        text = f"{where}: {self.what}" if where else self.what
        return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    """Return a line end or control character as it is written: one message is one line, whatever it quotes."""
    return letter.encode("unicode_escape").decode("ascii")


class InputError(ValueError):
    """Raised for an input that cannot be used; carries every problem found. The CLI exits with 2."""

    def __init__(self, problems: Iterable[Problem] | str) -> None:
        self.problems = [Problem("", problems)] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[InputError], tuple[list[Problem]]]:
        """Carry the problems from one process to another."""
        return InputError, (self.problems,)

    def within(self, file: str) -> InputError:
        """Return the same error; problems without a place of their own are in `file`."""
        return InputError([each if each.where else Problem(file, each.what) for each in self.problems])


class InternalError(RuntimeError):
    """Raised where a result breaks a law that it must keep: a mistake of clustersim's, not of the input's.

    The CLI exits with 70.
    """

    def __str__(self) -> str:
        return (
            f"clustersim contradicts itself: {self.args[0]}. This is a mistake in clustersim, not in your input: "
            "please report it, with the scenario and the seed"
        )


def shortened(value: object, most: int = _SHOWN) -> str:
    """Return a value as text of at most `most` characters."""
    text = str(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def unknown(noun: str, name: object, choices: Iterable[str], see: str = "") -> str:
    """Say that `name` is no known `noun`: the nearest choices, then all of them (or where to see them)."""
    names = sorted(choices)
    asked = str(name)
    near = difflib.get_close_matches(asked.lower(), names, n=3, cutoff=0.5) if len(asked) < _COMPARED else []
    text = f'no {noun} "{shortened(asked)}".'
    if near:
        text += " Did you mean " + " or ".join(f'"{n}"' for n in near) + "?"
    if len(names) <= 12:
        text += f" Choices: {', '.join(names)}."
    elif see:
        text += f" All {len(names)}: {see}"
    else:
        text += f" All {len(names)}: {', '.join(names)}."
    return text
