"""The documentation is true: commands run, examples run, links lead somewhere, the site builds."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pages import PAGES, ROOT, Block, blocks, links

import clustersim as cs
from clustersim.kinds import kinds
from clustersim.metrics import PERCENTILES

FILES = ("yaml", "json", "text")
SHELLS = ("bash", "console")
RUNNABLE = [page for page in PAGES if any(b.language in ("python", *SHELLS) for b in blocks(page))]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def program(tmp_path: Path) -> dict[str, str]:
    """An environment in which `clustersim` and `make` are this checkout's."""
    programs = tmp_path / "programs"
    programs.mkdir()
    script = programs / "clustersim"
    script.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -c "from clustersim.cli import main; main()" "$@"\n'
    )
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "NO_COLOR": "1", "COLUMNS": "400"}


@pytest.mark.parametrize("page", RUNNABLE, ids=name)
def test_every_command_and_example_runs(page: Path, program: dict[str, str], tmp_path: Path) -> None:
    """In order, in one folder: titled blocks become files, shell blocks run, Python blocks share one session."""
    folder = tmp_path / "here"
    folder.mkdir()
    session: list[str] = []
    for block in blocks(page):
        if block.skipped:
            continue
        if block.title:
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.title).write_text(block.text)
        elif block.language in SHELLS:
            shell(page, block, folder, program)
        elif block.language == "python":
            session.append(block.text)
    if session:
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-"], input="\n".join(session), cwd=folder, env=program, text=True,
            capture_output=True, timeout=300, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, f"{name(page)}: {ran.stderr}"


def shell(page: Path, block: Block, folder: Path, program: dict[str, str]) -> None:
    """Run the commands of a block; make targets are only planned."""
    where = f"{name(page)}:{block.line}"
    printed = ""
    for number, shown in enumerate(block.commands):
        command = shown
        first = shlex.split(shown, comments=True)[0]
        if first == "make":
            command = f"{shown.split('#')[0]} --dry-run --directory {ROOT}"
        elif shown.startswith("clustersim run "):
            command = re.sub(r"^clustersim run (\S+)", rf"clustersim run \1 {block.added}", shown)
        else:
            assert first in ("clustersim", "python", ".venv/bin/python"), f"{where}: cannot run {shown}"
        ran = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env=program,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        last = number == len(block.commands) - 1
        assert ran.returncode == (block.exit_code if last else 0), (
            f"{where}: {command}\n{ran.stdout}{ran.stderr}"
        )
        printed += ran.stdout + ran.stderr
    if "output" in block.marks:
        assert printed.strip() == block.output.strip(), where


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in links(page):
        if "://" in link:
            continue
        target, _, heading = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        if "reference/" in target:
            continue  # written at build time; the strict build checks them
        if target in ("architecture.md", "changelog.md") and not path.exists():
            path = ROOT / target.replace(".md", "").upper().__add__(".md")
        assert path.is_file(), f"{name(page)}: {link}"
        if heading:
            heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.M)
            slugs = [re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads]
            assert heading in slugs, f"{name(page)}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_nothing_private_is_said(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"/(?:work|root)/|\bshared/", text)
    assert not re.search(r"\S [—–] \S|\bseamless|\bcutting-edge|\bpowerful\b|\bleverag", text)


def test_yaml_without_a_title_is_a_fragment_that_parses() -> None:
    from clustersim.yaml_file import parse_yaml

    for page in PAGES:
        for block in blocks(page):
            if block.language == "yaml" and not block.title and "model:" not in block.text:
                parse_yaml(block.text, name(page))


def test_every_metric_is_explained() -> None:
    scenario = cs.load("chat_h100", ["horizon=5 s", "warm_up=none"])
    metrics = cs.simulate(scenario).metrics
    tasked = cs.simulate(cs.load("best_of_n", ["horizon=1 min", "warm_up=none"])).metrics
    stats = "mean|median|std|" + "|".join(f"p{p}" for p in PERCENTILES)
    keys = {
        re.sub(rf"^({stats})_(\w+)_ms$", r"*_\2_ms", key)
        for key in (*metrics, *metrics["deployments"]["chat"], *tasked, *tasked["tasks"]["questions"])
    }
    pages = ("metrics.md", "energy-and-cost.md")
    said = set()
    for page in pages:
        text = re.sub(
            r"```.*?```", "", (ROOT / "docs/background" / page).read_text(encoding="utf-8"), flags=re.S
        )
        said |= set(re.findall(r"`([^`]+)`", text))
    assert keys - said - {"deployments"} == set()


def test_counts_in_the_readme_are_those_of_the_library() -> None:
    from clustersim import library

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for shelf in ("accelerators", "nodes", "sites", "models", "benchmarks"):
        assert f"{len(library.names(shelf))} {shelf}" in text


def test_counts_in_the_changelog_are_those_of_the_code() -> None:
    from clustersim.workload.traces import FORMATS

    profiles = [path for path in (ROOT / "hardware_specs/profiles").iterdir() if path.is_dir()]
    counts = {
        "strategies": len(kinds("strategy")), "routers": len(kinds("router")), "autoscalers": len(kinds("autoscaler")),
        "formats": len(FORMATS), "public claims": len(list((ROOT / "scenarios/claims").glob("*.yaml"))),
        "NVIDIA accelerators": len([path for path in profiles if path.name != "generic"]),
    }  # fmt: skip
    words = {7: "seven", 9: "nine", 11: "eleven", 15: "fifteen", 40: "forty"}
    text = " ".join((ROOT / "CHANGELOG.md").read_text(encoding="utf-8").lower().split())
    for what, count in counts.items():
        assert f"{words.get(count, count)} {what.lower()}" in text


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    for page in ("index.html", "reference/cli.html", "reference/scenario.html", "reference/parts.html"):
        assert (tmp_path / "site" / page).is_file()
