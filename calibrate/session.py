"""One `python -m calibrate run`: from the gate to the table that is printed at the end."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import click

from calibrate import contention
from calibrate.benches import PlanName
from calibrate.child import Child, WorkerError
from calibrate.plan import Plan
from calibrate.progress import bar
from calibrate.runner import Host, Runner, ask_plan
from calibrate.store import Store
from clustersim.errors import InputError


@dataclass
class Session:
    """The settings of a run, as the command line gives them."""

    plan: str = "default"
    out: Path | None = None
    name: str = "local"
    device: str | None = None
    resume: bool = True
    allow_contended: bool = False
    benches: tuple[str, ...] = ()
    max_time: float | None = None
    backend: str | None = None
    threads: int = 1
    seed: int = 0
    provider: str = "calibrate.worker:local"
    quiet: bool = False
    least_timeout_s: float = 30.0

    def run(self) -> Path:
        """Measure, fit, write and print; returns the profile's folder. Exits with 3 where the gate refuses."""
        from clustersim.cost.profile import user_folder

        root, began = self.out or user_folder(), time.monotonic()
        self._refuse_busy_host()
        child, plan, hello, gaps = self._plan(root)
        device = self.device or device_name(hello)
        runs = root / ".runs"
        folder = runs / f"{device}-{self.name}-{plan.hash}"
        if not self.resume and folder.exists():
            os.rename(folder, runs / f"{folder.name}.left-{_stamp()}")
        store = Store(folder)
        before = len(store.samples())
        store.add_session(
            {"started": _now(), "plan": plan.hash, "accelerator": device, "device": dict(hello)}
        )
        if before:
            self._say(f"going on with {folder}: {before} results are there")
        with bar(quiet=self.quiet) as progress:
            runner = Runner(
                plan, store, self._host, str(hello["kind"]), self._budget_s(plan), self.allow_contended, progress,
                child, began,
            )  # fmt: skip
            outcome = runner.run()
        return self._finish(plan, store, hello, device, root, gaps | _named(plan, outcome.gaps))

    @property
    def _host(self) -> Host:
        local = self.provider == "calibrate.worker:local"
        options = {"backend": self.backend or "", "threads": self.threads} if local else {}
        return Host(self.provider, options, least_timeout_s=self.least_timeout_s)

    def _budget_s(self, plan: Plan) -> float | None:
        return self.max_time if self.max_time is not None else plan.level.budget_s

    def _plan(self, root: Path) -> tuple[Child, Plan, Mapping[str, Any], dict[str, str]]:
        """Ask a worker for the plan; it then measures the first repetition."""
        try:
            (root / ".runs").mkdir(parents=True, exist_ok=True)
            child = self._host.open(root / ".runs")
        except OSError as error:
            raise InputError(f"{root} cannot be written: {error.strerror}") from None
        try:
            plan, hello, gaps = ask_plan(child, cast("PlanName", self.plan), self.benches, self.seed)
        except BaseException as error:
            child.kill()
            if not isinstance(error, WorkerError):
                raise
            remedy = " Remedies: python -m calibrate doctor" if error.kind != "InputError" else ""
            raise InputError(f"{error.text.removeprefix('InputError: ')}{remedy}") from None
        if not plan.cases:
            child.kill()
            raise InputError("the plan has no cases: this device can run none of the benchmarks asked for")
        return child, plan, hello, gaps

    def _refuse_busy_host(self) -> None:
        reasons = contention.Gate().judge(contention.look(1.0), on_cpu=False)
        if reasons and not self.allow_contended:
            self._refuse("this host is busy", reasons)

    def _refuse(self, what: str, reasons: tuple[str, ...]) -> None:
        from calibrate.cli import CONTENDED

        click.echo(f"{what}, and its profile would not be the device's own:", err=True)
        for reason in reasons:
            click.echo(f"  {reason}", err=True)
        click.echo("Stop the other programs, or give --allow-contended: the profile then says so.", err=True)
        raise click.exceptions.Exit(CONTENDED)

    def _finish(
        self,
        plan: Plan,
        store: Store,
        hello: Mapping[str, Any],
        device: str,
        root: Path,
        gaps: dict[str, str],
    ) -> Path:
        from calibrate.write import Measured, build, write_folder

        samples = store.samples()
        if not samples:
            errors = store.errors()
            why = errors[-1]["text"] if errors else "the time budget is too short for a single case"
            raise InputError(f"nothing was measured: {why}")
        marked = sum("contended" in each.flags for each in samples)
        contended = contention.Gate().refuses(marked, len(samples))
        if contended and not self.allow_contended:
            self._say(
                f"The samples are kept in {store.folder}; with --allow-contended they are used as they are."
            )
            self._refuse(f"{marked} of {len(samples)} results were taken while other programs ran", ())
        measured = Measured.of(
            plan, store, hello, device=device, name=self.name, contended=contended, gaps=gaps
        )
        profile, _ = build(measured)
        target = write_folder(profile, measured, store, root)
        store.write_manifest()
        os.rename(store.folder, store.folder.with_name(f"{store.folder.name}.done-{_stamp()}"))
        from calibrate.table import print_run

        print_run(profile, measured.rows, store_errors(target), target, self.out)
        return target

    def _say(self, text: str) -> None:
        click.echo(text, err=True)


def store_errors(folder: Path) -> list[dict[str, Any]]:
    """Return the failures that a profile's folder records."""
    lines = (folder / "errors.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def device_name(hello: Mapping[str, Any]) -> str:
    """Return the accelerator that a device is, in clustersim's words.

    What the backend says; else the specification all of whose words the driver's name holds ("NVIDIA H100 PCIe" is
    an h100-pcie); else the one of its first word that is soldered to a board ("NVIDIA H100 80GB HBM3" is an
    h100-sxm: the driver names the others' form); else the driver's name, made into a file's.
    """
    from clustersim import library

    if hello.get("accelerator"):
        return str(hello["accelerator"])
    if hello["kind"] == "cpu":
        return "local-cpu"
    driver = re.findall(r"[a-z0-9]+", str(hello["name"]).lower())
    words = {*driver, *("sxm" for word in driver if word.startswith("sxm"))}
    known = library.names("accelerators")
    named = [name for name in known if set(name.split("-")) <= words]
    boards = [name for name in known if name.split("-")[0] in words and name.endswith(("-sxm", "-nvl72"))]
    found = max(named, key=len, default="") or ("" if "pcie" in words else min(boards, key=len, default=""))
    return found or "-".join(driver)[:60]


def _named(plan: Plan, gaps: Mapping[str, str]) -> dict[str, str]:
    """Return gaps by benchmark and reason, with how many of its cases, in place of one a case."""
    bench = {each.case.key: each.case.bench for each in plan.cases}
    total = Counter(bench.values())
    counts = Counter((bench[key], why) for key, why in gaps.items())
    return {f"{name}: {count} of {total[name]} cases": why for (name, why), count in sorted(counts.items())}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
