"""What every refusal owes a person: one line that says where and what to do, exit code 2, nothing left on disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from clustersim.cli import main

#: A small sound scenario that cases break.
GOOD = """\
name: small
horizon: 10 s
fleet:
  - site: us-iowa
    clusters:
      - {name: pool, node: hgx-h100, count: 2}
deployments:
  - name: serve
    model: llama-3.1-8b
    on: pool
workloads:
  - name: asks
    arrivals: {kind: poisson, rate: 2 req/s}
    lengths: {kind: fixed, input: 100, answer: 20}
"""


def everything(folder: Path) -> dict[str, object]:
    """Return what is in a folder, and in the folders in it, without opening pipes."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_size, status.st_ino)
    return found


def refusal(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lines: int = 1
) -> str:
    """Run the program in this process; return the line with which it refuses, the first of at most so many."""
    before = everything(Path.cwd())
    monkeypatch.setattr(sys, "argv", ["clustersim", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    out, errors = capsys.readouterr()
    assert stopped.value.code == 2, out + errors
    assert out == "", out
    assert "Traceback" not in errors
    said = errors.splitlines()
    assert 1 <= len(said) <= lines, errors
    assert len(said[0]) < 2500, said[0]
    assert everything(Path.cwd()) == before, "something was left on disk"
    return said[0]


def root() -> bool:
    """Say whether this process may read and write everything."""
    return hasattr(os, "geteuid") and os.geteuid() == 0
