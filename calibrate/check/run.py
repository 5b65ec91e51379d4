"""A check, from the gate to the verdict."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from calibrate import contention
from calibrate.check.deployment import Deployment, Prediction, ServedShape
from calibrate.check.errors import (
    Errors,
    latency_errors,
    operator_errors,
    plain,
    step_errors,
    summarise,
    validated,
)
from calibrate.check.model import PAGE
from calibrate.check.steps import STEPS, Step, measure
from calibrate.figures import SPACER
from calibrate.pace import is_slowed, reference_s
from clustersim.cost.profile import Profile, forget_profiles, load_profile, user_folder
from clustersim.errors import InputError

#: Exit status where other programs disturb, as in calibrate.cli.
CONTENDED = 3
_REPETITIONS = {"quick": 3, "default": 7}
_LOAD_S = {"quick": 6.0, "default": 40.0}
#: Readings of the core's pace at the end.
_PACES = 10
#: Tokens of cache beyond those of the largest step.
_SPARE_TOKENS = 8192


@dataclass
class Check:
    """The settings of a check, as the command line gives them."""

    plan: str = "default"
    out: Path | None = None
    name: str = "local"
    device: str = "local-cpu"
    layers: int = 6
    hidden: int = 768
    seconds: float | None = None
    share: float = 0.6
    repetitions: int | None = None
    seed: int = 0
    allow_contended: bool = False
    write: bool = True
    quiet: bool = False

    def run(self) -> Mapping[str, Any]:
        """Measure, predict, compare, print and write; returns what check.json holds."""
        with _profiles_in(self.out):
            profile = self._profile()
            self._refuse("this host is busy", contention.Gate().judge(contention.look(1.0), on_cpu=False))
            before, began = contention.read(), time.perf_counter()
            report, errors = self._measure(profile)
            readings = contention.between(before, contention.read())
            reasons = (*contention.Gate().judge(readings, on_cpu=True), *report["pace"]["reasons"])
            report |= {
                "took_s": time.perf_counter() - began,
                "readings": readings,
                "contended": list(reasons),
            }
            from calibrate.check.table import print_check

            print_check(report)
            self._refuse("other programs ran meanwhile, so nothing was written", reasons)
            if self.write:
                self._write(profile, report, errors, reasons)
        return report

    def _profile(self) -> Profile:
        profile = load_profile(self.device, self.name)
        if profile is None:
            raise InputError(f"no profile of {self.device}: measure one with `python -m calibrate run`")
        figures = profile.device_figures
        if figures is None or figures.kind != "cpu":
            raise InputError(
                f"{self.device} is no CPU that was measured: hold its profile against an engine that runs on it, "
                "with `clustersim calibrate-from`"
            )
        return profile

    def _refuse(self, what: str, reasons: tuple[str, ...]) -> None:
        if not reasons or self.allow_contended:
            return
        for line in (f"{what}:", *(f"  {reason}" for reason in reasons)):
            click.echo(line, err=True)
        click.echo("Free it, or give --allow-contended; the profile will then say so.", err=True)
        raise SystemExit(CONTENDED)

    def _measure(self, profile: Profile) -> tuple[dict[str, Any], Errors]:
        from calibrate.backends.cpu import CpuBackend
        from calibrate.check.served import ServedModel
        from calibrate.progress import bar

        steps = STEPS[self.plan]
        heads = self.hidden // 64
        shape = ServedShape(
            self.layers, heads * 64, heads, heads // 3 if heads % 3 == 0 else heads, round(8 * heads * 64 / 3 / 64) * 64
        )  # fmt: skip
        backend = CpuBackend()
        deployment = Deployment(profile, shape, backend.dtypes[0], _blocks(steps))
        spec = deployment.plan.deployment.model
        model = ServedModel(spec, deployment.dtype, backend, deployment.plan.memory.num_blocks)
        repetitions = self.repetitions or _REPETITIONS[self.plan]
        with bar(quiet=self.quiet):
            known = profile.host.get(SPACER)
            measured = measure(steps, model, repetitions, self.seed, known.value if known else None)
            now_s = reference_s(model.pace_s() for _ in range(_PACES))
        compared = step_errors(measured, deployment)
        errors = {kind: summarise(compared, kind) for kind in ("decode", "prefill", "all")}
        report = {
            "schema": 1, "date": datetime.now(UTC).isoformat(timespec="seconds"), "plan": self.plan,
            "profile": profile.name, "model": shape.hf_config(deployment.dtype), "repetitions": repetitions,
            "pace": {
                "profile_s": known.value if known else None, "now_s": now_s,
                "reasons": pace_reasons(known.value if known else None, now_s, sum(each.slowed for each in measured)),
            },
            "errors": {kind: asdict(each) for kind, each in errors.items()}, "steps": plain(compared),
            "operators": {
                kind: plain(operator_errors(measured, deployment, kind)) for kind in ("decode", "prefill")
            },
            "load": self._load(deployment, model),
        }  # fmt: skip
        return report, errors["all"]

    def _load(self, deployment: Deployment, model: Any) -> dict[str, Any]:
        host = model.host_times()
        hosted = deployment.with_host(host)
        workload, requests = hosted.load(self.seconds or _LOAD_S[self.plan], self.share, self.seed)
        outcome = model.serve(requests, hosted.token_budget, hosted.max_num_seqs)
        predicted: Prediction = hosted.predict(workload, self.seed)
        return {
            "host": asdict(host), "num_requests": len(requests), "rate_per_s": workload["arrivals"]["rate"],
            "num_steps": outcome.num_steps, "clock_s": outcome.clock_s, "wall_s": outcome.wall_s,
            "busy_frac": outcome.busy_frac, "predicted_utilisation": predicted.utilisation,
            "regime": predicted.regime, "num_preemptions": outcome.num_preemptions,
            "latencies": [
                {**each, "error_frac": e.error_frac}
                for e in latency_errors(outcome.latencies_s, predicted.latencies_s)
                for each in plain([e])
            ],
        }  # fmt: skip

    def _write(
        self, profile: Profile, report: Mapping[str, Any], errors: Errors, reasons: tuple[str, ...]
    ) -> None:
        from calibrate.check.record import save

        gaps = {name: why for name, why in profile.gaps.items() if name != "check"}
        if reasons:
            gaps["check"] = f"held against whole steps while other programs ran: {'; '.join(reasons)}"
        folder = (self.out or user_folder()) / profile.device / profile.name
        save(validated(profile.model_copy(update={"gaps": gaps}), errors), report, folder)
        click.echo(f"Written: {folder}/profile.yaml (validation), {folder}/check.json")


def pace_reasons(profile_s: float | None, now_s: float | None, num_slowed: int) -> list[str]:
    """Return what the core's pace, then and now, says against holding a profile against these steps, in words."""
    found = []
    if is_slowed(now_s, profile_s):
        found.append(f"the core is slower than when the profile was taken: {_ratio(now_s, profile_s)}")
    if is_slowed(profile_s, now_s):
        found.append(
            f"the core is faster than when the profile was taken: {_ratio(now_s, profile_s)}; run it anew"
        )
    if num_slowed:
        found.append(f"{num_slowed} steps were only ever timed on a slowed core")
    return found


def _ratio(now_s: float | None, profile_s: float | None) -> str:
    assert now_s
    assert profile_s
    return f"it takes {now_s / profile_s:.2f} times as long for the same layer"


def _blocks(steps: tuple[Step, ...]) -> int:
    """Return the KV blocks that the largest step needs, and some for the load."""
    tokens = max(
        step.batch * step.context if step.kind == "decode" else step.batch + step.context for step in steps
    )
    return -(-(tokens + _SPARE_TOKENS) // PAGE)


@contextmanager
def _profiles_in(folder: Path | None) -> Iterator[None]:
    """Let clustersim look for profiles in a folder."""
    if folder is None:
        yield
        return
    old = os.environ.get("CLUSTERSIM_PROFILES")
    os.environ["CLUSTERSIM_PROFILES"] = str(folder)
    forget_profiles()
    try:
        yield
    finally:
        if old is None:
            del os.environ["CLUSTERSIM_PROFILES"]
        else:
            os.environ["CLUSTERSIM_PROFILES"] = old
        forget_profiles()
