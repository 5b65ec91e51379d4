"""Deployments that prefill and decode for each other: their money and energy are only worth telling together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from clustersim.report import words
from clustersim.results.result import Result
from clustersim.scenario.plan import DeploymentPlan
from clustersim.units import HOUR_S, KWH_J, MEGA


@dataclass(frozen=True)
class Spent:
    """What some deployments spent in the measured window, of which each may tell its share by tokens."""

    names: tuple[str, ...]
    usd: float | None
    joules: float
    gco2e: float
    tokens: float
    """Tokens made, or, of one that only prefills, prompt tokens computed."""
    requests: float
    """Requests that the decoding ones finished, or that the one prefilled."""
    accelerators: float
    """Held, in the mean of the window."""
    length_s: float

    @property
    def usd_per_mtok(self) -> float | None:
        """Dollars of a million tokens."""
        return self.usd / self.tokens * MEGA if self.usd is not None and self.tokens else None

    @property
    def joules_per_token(self) -> float | None:
        """Joules of a token."""
        return self.joules / self.tokens if self.tokens else None

    @property
    def tokens_per_s_per_gpu(self) -> float:
        """Tokens a second over all accelerators held."""
        return self.tokens / self.length_s / max(self.accelerators, 1e-12)

    @property
    def carbon_per_1k(self) -> str:
        """Grams of CO2 equivalent for a thousand requests, in words."""
        return words.carbon(self.gco2e, self.requests)


def prefills(result: Result, plan: DeploymentPlan) -> bool:
    """Whether a deployment only prefills, for others."""
    return result.served[plan.index].prefills


def members(result: Result, plan: DeploymentPlan) -> list[DeploymentPlan]:
    """Return the deployments that one prefills or decodes with, itself among them: the one that prefills first."""
    first = plan.deployment.name if prefills(result, plan) else plan.deployment.prefill_by
    if first is None:
        return [plan]
    pool = [each for each in result.plans if each.deployment.name == first]
    return [*pool, *(each for each in result.plans if each.deployment.prefill_by == first)]


def latencies(result: Result, plan: DeploymentPlan) -> tuple[str, ...]:
    """Return the latencies that a deployment has: one that only prefills has none but the first token's."""
    return ("ttft",) if prefills(result, plan) else tuple(words.LATENCIES)


def spent(result: Result, plan: DeploymentPlan) -> Spent:
    """Return what a deployment spent: one that prefills by its prompt tokens, others with who prefills for them."""
    if prefills(result, plan):
        tokens = result.served[plan.index].input_tokens
        return _sum(result, [plan], tokens)
    every = members(result, plan)
    return _sum(result, every, sum(result.served[each.index].output_tokens for each in every))


def _sum(result: Result, plans: list[DeploymentPlan], tokens: float) -> Spent:
    names = tuple(plan.deployment.name for plan in plans)
    every = [result.metrics["deployments"][name] for name in names]
    dollars = [each["usd"] for each in every]
    length_s = result.served[plans[0].index].length_s
    ends = [each for each, plan in zip(every, plans, strict=True) if not prefills(result, plan)] or every
    return Spent(
        names,
        None if None in dollars else sum(dollars),
        sum(each["energy_kwh"] for each in every) * KWH_J,
        sum(each["gco2e"] for each in every),
        tokens,
        sum(each["request_throughput"] * each["duration"] for each in ends),
        sum(
            each["gpu_hours"] * HOUR_S / length_s if "gpu_hours" in each else each["num_accelerators"]
            for each in every
        ),
        length_s,
    )


def together(result: Result, plan: DeploymentPlan) -> str:
    """Return what a group of pools took, in words, at the last of its deployments; "" at others and for none."""
    every = members(result, plan)
    if len(every) < 2 or plan.index != max(each.index for each in every):
        return ""
    of = spent(result, every[-1])
    return (
        f"{words.listed(of.names)}: {words.usd(of.usd_per_mtok)} per Mtok output, "
        f"{words.number(of.joules_per_token)} J per output token, {of.carbon_per_1k} per 1k requests, "
        f"{words.number(of.tokens_per_s_per_gpu)} tok/s/GPU."
    )


def sentences(result: Result, plan: DeploymentPlan) -> Iterator[str]:
    """Yield what tokens of a deployment cost in money and energy."""
    of = spent(result, plan)
    token = "prompt token computed" if prefills(result, plan) else "output token"
    unpriced = (
        "no price is known for these accelerators"
        if len(of.names) > 1
        else "no price is known for this accelerator"
    )
    money = (
        unpriced
        if of.usd is None
        else f"a million {token.replace('token', 'tokens', 1)} cost {words.usd(of.usd_per_mtok)}"
    )
    with_others = f", {words.listed(of.names)} together" if len(of.names) > 1 else ""
    yield (
        f"{money[0].upper()}{money[1:]}; one {token} takes {words.number(of.joules_per_token)} J "
        f"at the meter{with_others}."
    )
    if prefills(result, plan):
        others = [each.deployment.name for each in members(result, plan)[1:]]
        yield f"What an output token takes is told of {words.listed(others)}, with this deployment counted in."


def tiles(result: Result, plan: DeploymentPlan) -> Iterator[tuple[str, str, str, str]]:
    """Yield (label, value, unit, small print) of a deployment's tokens, what they cost and the energy they take."""
    of, metrics = spent(result, plan), result.metrics["deployments"][plan.deployment.name]
    joules = words.number(of.joules_per_token)
    unit = "" if joules == words.UNKNOWN else "J"
    if prefills(result, plan):
        rate, token, counted = words.number(of.tokens_per_s_per_gpu), "prompt token computed", ""
        yield "Prompts", rate, "tok/s/GPU", "computed"
    else:
        rate, token = words.number(metrics["tokens_per_s_per_gpu"]), "output token"
        counted = f", {of.names[0]} counted in" if len(of.names) > 1 else ""
        yield "Output", rate, "tok/s/GPU", f"{words.number(metrics['tokens_per_s_per_user'])} tok/s a user"
    yield "Cost", words.usd(of.usd_per_mtok), "", f"per million {token.replace('token', 'tokens')}{counted}"
    yield "Energy", joules, unit, f"per {token}; {of.carbon_per_1k} per 1k requests{counted}"


def facts(result: Result, plan: DeploymentPlan) -> list[str]:
    """Return the same, short, for the terminal; of one that decodes without what is told of its group together."""
    of, metrics = spent(result, plan), result.metrics["deployments"][plan.deployment.name]
    if prefills(result, plan):
        what = "prompt"
        found = [f"{words.number(of.tokens_per_s_per_gpu)} prompt tok/s/GPU"]
    else:
        what = "output"
        found = [
            f"{words.number(metrics['tokens_per_s_per_gpu'])} tok/s/GPU",
            f"{words.number(metrics['tokens_per_s_per_user'])} tok/s/user",
        ]
        if len(of.names) > 1:
            return found
    return [
        *found,
        f"{words.usd(of.usd_per_mtok)} per Mtok {what}",
        f"{words.number(of.joules_per_token)} J per {what} token",
        f"{of.carbon_per_1k} per 1k requests",
    ]
