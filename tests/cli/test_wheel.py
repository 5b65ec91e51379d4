"""A wheel holds the built-in specs and scenarios, and finds them where no checkout is near."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content in a folder."""
    folder = tmp_path_factory.mktemp("wheel")
    if importlib.util.find_spec("hatchling"):
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    else:
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(folder), str(ROOT)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        pytest.skip(f"no wheel can be built here: {(built.stderr or built.stdout).strip()[-200:]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def run(unpacked: Path, folder: Path, code: str) -> str:
    """Run code with the unpacked wheel before everything else, away from the checkout."""
    script = f"import sys; sys.path.insert(0, {str(unpacked)!r}); {code}"
    return subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    ).stdout  # fmt: skip


def test_it_holds_what_the_checkout_holds(unpacked: Path) -> None:
    data = unpacked / "clustersim" / "_data"
    for top in ("hardware_specs", "scenarios"):
        here = {
            path.relative_to(ROOT) for path in (ROOT / top).rglob("*") if path.suffix in (".yaml", ".json")
        }
        there = {
            path.relative_to(data) for path in (data / top).rglob("*") if path.suffix in (".yaml", ".json")
        }
        assert here == there
    assert (unpacked / "clustersim" / "py.typed").is_file()
    assert list((unpacked / "clustersim" / "report" / "templates").glob("*"))
    assert not list(unpacked.glob("tests"))


def test_it_runs_a_built_in_scenario(unpacked: Path, tmp_path: Path) -> None:
    printed = run(
        unpacked, tmp_path,
        "import clustersim as cs; from clustersim import library; s = cs.load('chat_h100', ['horizon=10 s']); "
        "print(library.ROOT); print(cs.simulate(s)['completed'])",
    ).split()  # fmt: skip
    assert Path(printed[0]) == unpacked / "clustersim" / "_data"
    assert int(printed[1]) > 0
