"""Write anew what the documentation shows of the program: python tests/docs/refresh.py.

Blocks marked `<!-- shown -->` get what their commands print, and a page the list of what runs on a GPU alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import gpu_paths
from pages import PAGES

_SHOWN = re.compile(r"(<!-- shown -->\n```console\n)\$ clustersim (.*)\n(?:.*\n)*?(```\n)")


def main() -> None:
    """Rewrite the pages in place."""
    gpu_paths.PAGE.write_text(gpu_paths.page(), encoding="utf-8")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        new = _SHOWN.sub(
            lambda found: f"{found[1]}$ clustersim {found[2]}\n{output(found[2])}{found[3]}", text
        )
        if new != text:
            page.write_text(new, encoding="utf-8")
            print(page)


def output(arguments: str) -> str:
    """Return what a command prints, without blanks at the ends of lines."""
    code = "from clustersim.cli import main; main()"
    with tempfile.TemporaryDirectory() as folder:
        printed = subprocess.run(
            [sys.executable, "-c", code, *arguments.split()], cwd=Path(folder), check=True, capture_output=True,
            text=True, env={**os.environ, "NO_COLOR": "1"},
        ).stdout  # fmt: skip
    return "".join(f"{line.rstrip()}\n" for line in printed.splitlines())


if __name__ == "__main__":
    main()
