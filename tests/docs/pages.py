"""Read the documentation: its code blocks with the markers before them, and its links.

A marker is an HTML comment on the line before a block: `<!-- test: WORDS -->`, where WORDS are, parted by commas,
`skip REASON`, `exit N`, `output` (the output shown is compared), or `--set "A=B"` (added to every `clustersim run`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^```(\w+)(?:[ ]+title=\"([^\"]+)\")?$")
_MARK = re.compile(r"^<!-- test: (.*) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file name in its title, its text, the line it starts on, and its marks."""

    language: str
    title: str
    text: str
    line: int
    marks: tuple[str, ...]

    @property
    def skipped(self) -> bool:
        """Whether it is not to be run."""
        return any(mark.startswith("skip") for mark in self.marks)

    @property
    def exit_code(self) -> int:
        """The exit code that its last command gives."""
        return next((int(mark.split()[1]) for mark in self.marks if mark.startswith("exit ")), 0)

    @property
    def added(self) -> str:
        """Options added to every `clustersim run`."""
        return " ".join(mark for mark in self.marks if mark.startswith("--"))

    @property
    def commands(self) -> list[str]:
        """The command lines of a shell block."""
        lines = [line.strip() for line in self.text.splitlines()]
        if self.language == "console":
            return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line and not line.startswith("#")]

    @property
    def output(self) -> str:
        """What a console block shows beside its commands."""
        return "\n".join(line for line in self.text.splitlines() if not line.startswith("$ "))


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in order."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    marks: tuple[str, ...] = ()
    start, head = 0, None
    for number, line in enumerate(lines, start=1):
        if head is not None:
            if line == "```":
                text = "\n".join(lines[start : number - 1]) + "\n"
                found.append(Block(head[1], head[2] or "", text, start, marks))
                head, marks = None, ()
        elif line == "<!-- shown -->":
            continue
        elif mark := _MARK.match(line):
            marks = tuple(word.strip() for word in mark[1].split(","))
        elif fence := _FENCE.match(line):
            start, head = number, fence
    assert head is None, f"{page}:{start}: a block without an end"
    return found


def links(page: Path) -> list[str]:
    """Return the targets of links, those in code left out."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text))
