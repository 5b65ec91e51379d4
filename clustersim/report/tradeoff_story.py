"""What a tradeoff study says, in sentences: the answer, how sure it is, what it rests on, what to measure first."""

from __future__ import annotations

from collections.abc import Iterator

from clustersim.quality.benchmark import load_benchmark
from clustersim.quality.solver import MODES, Mode
from clustersim.report import tradeoff_words as say
from clustersim.report import words
from clustersim.study.tradeoff import Tradeoff
from clustersim.study.tradeoff.answer import ANY, Answer
from clustersim.study.tradeoff.plans import Choice

#: Sure enough to name a winner: the chance of the other being cheaper is below this.
_SURE = 0.1


def headline(found: Tradeoff) -> str:
    """Return who wins, or that nobody does."""
    verdicts = {mode: verdict(found, each) for mode, each in found.answers.items()}
    asked = f"at {say.count(found.study.demand.queries_per_day)} queries a day"
    one, other = (verdicts[mode] for mode in MODES)
    if one == other and one:
        return f"{say.policy(one).capitalize()}: cheaper {asked}, whatever training still gives"
    if one and other:
        turns = f"{say.policy(one)} {say.MODES[MODES[0]]}, else {say.policy(other)}"
        return f"It turns on what training still gives: {turns}"
    if not one and not other:
        chances = sorted(each.cheaper_asked for each in found.answers.values())
        low, high = map(say.chance, (chances[0], chances[-1]))
        between = low if low == high else f"{low} or {high}, by what training still gives"
        return (
            f"Too close to call {asked}: {say.policy(found.names[1])} is cheaper with a chance of {between}"
        )
    sure = MODES[0] if one else MODES[1]
    return f"{say.policy(one or other).capitalize()} {asked} {say.MODES[sure]}; too close to call otherwise"


def verdict(found: Tradeoff, each: Answer) -> str:
    """Return the policy that is surely cheaper in a mode, "" for neither."""
    first, second = found.names
    if each.cheaper_asked > 1 - _SURE:
        return second
    return first if each.cheaper_asked < _SURE else ""


def answer(found: Tradeoff) -> Iterator[str]:
    """Yield the cheapest plan and the two policies, in the first mode and the second."""
    target, demand = found.study.target, found.study.demand
    yield (
        f"To answer {100 * target.accuracy:g} % of {target.benchmark} rightly, for {demand.years} years, with "
        f"{100 * found.study.slo.quantile:g} % within the SLO:"
    )
    for mode in MODES:
        yield f"{say.MODES[mode][0].upper()}{say.MODES[mode][1:]}, {_cheapest(found, mode)}"


def _cheapest(found: Tradeoff, mode: Mode) -> str:
    each = found.answers[mode]
    best = each.choices[ANY]
    if best is None:
        return f"no plan does it: {each.why_not}."
    costs = [
        f"{say.policy(name)} costs {say.usd(choice.usd)}" if choice else f"{say.policy(name)} cannot reach it"
        for name, choice in ((name, each.choices[name]) for name in found.names)
    ]
    return (
        f"the cheapest is {plan(best)}, {say.of_band(each.bands['usd'], say.usd)} in all; {', '.join(costs)}."
    )


def plan(best: Choice) -> str:
    """Return a plan in a phrase."""
    return (
        f"{say.count(best.size)} weights on {say.count(best.train_tokens)} tokens "
        f"({best.tokens_per_weight:,.0f} a weight), thinking {best.thinking:,.0f} tokens ({best.strategy})"
    )


def spent(best: Choice) -> str:
    """Return where a plan's money and power go."""
    return (
        f"{say.usd(best.pretrain_usd)} pretraining ({best.train_accelerators:,} accelerators, "
        f"{best.train_days:.0f} days, {best.train_mw:.1f} MW), {say.usd(best.rl_usd)} reinforcement learning, "
        f"{say.usd(best.serving_usd)} serving ({best.accelerators:,.0f} accelerators in the last year, "
        f"{best.peak_mw:.1f} MW at its peak)"
    )


def how_sure(found: Tradeoff) -> Iterator[str]:
    """Yield the chances, the crossover and what decides, mode by mode."""
    second = say.policy(found.names[1])
    for mode, each in found.answers.items():
        chance = say.chance(each.cheaper_asked)
        text = f"{mode}: {second} is cheaper with a chance of {chance}. At best values "
        text += f"{say.crossover(each.crossover, second)}."
        if each.neither > 0.005:
            text += f" In {each.neither:.0%} of draws neither policy reaches the target.".replace("%", " %")
        if each.choices.get(ANY):
            serves, trains = (say.of_band(each.bands[key], _mw) for key in ("peak_mw", "train_mw"))
            text += f" The cheapest plan serves at {serves} and trains at {trains}."
        yield text


def _mw(value: float) -> str:
    return f"{value:.3g} MW"


def measure_first(found: Tradeoff, most: int = 3) -> Iterator[str]:
    """Yield the measurements that would take away most doubt, in both modes together."""
    shares: dict[str, list[float]] = {}
    for each in found.answers.values():
        for driver in each.drivers:
            shares.setdefault(driver.name, []).append(driver.share)
    ranked = sorted(shares, key=lambda name: -max(shares[name]))[:most]
    for number, name in enumerate(ranked, 1):
        low, high = min(shares[name]), max(shares[name])
        if high < 0.02:
            continue
        much = f"{high:.0%}" if len(shares[name]) < len(MODES) else f"{low:.0%} to {high:.0%}"
        yield f"{number}. {say.measurement(name).capitalize()}: {say.what(name)} makes {much} of the doubt.".replace(
            "%", " %"
        )


def rests(found: Tradeoff) -> Iterator[str]:
    """Yield what the figures rest on."""
    study = found.study
    held = [each for each in found.carried if not each.why_not]
    shares = ", ".join(
        f"{share:.0%} {name}".replace("%", " %")
        for name, share in sorted(found.evidence.items(), key=lambda item: -item[1])
        if share >= 0.005
    )
    yield (
        f"Serving: {sum(each.trials for each in found.carried):,} simulations of {len(found.carried)} cells on "
        f"{study.serving.node.name}, {len(held)} within the SLO; step times {shares}, standard error "
        f"{100 * found.surfaces.serving_error:.0f} %."
    )  # fmt: skip
    yield (
        f"Training: the closed form on {study.training.node.name}, slowed down {study.training.slowdown:g} times "
        f"(fitted on published jobs), {study.training.error.low:g} to {study.training.error.high:g} of that."
    )
    name, benchmark = study.target.like, load_benchmark(study.target.benchmark)
    known = [anchor.accuracy.value for anchor in benchmark.anchors if anchor.model.name == name]
    what = f"{known[0]:.1%} of {name}".replace("%", " %") if known else f"the family of {name}"
    yield (
        f"Quality: anchored by {what} on {benchmark.name}; slopes are fitted on other models and drawn over their "
        "ranges."
    )


def warnings(found: Tradeoff) -> Iterator[str]:
    """Yield what to know before relying on it."""
    yield (
        "How much reinforcement learning gives is assumed: its shift grows with the logarithm of the dose up to the "
        f"reference, and is not known beyond. {_doses(found)}"
    )
    yield "Accuracy on a benchmark stands for quality on your queries, which is yours to judge."
    for mode, each in found.answers.items():
        best = each.choices[ANY]
        if best is None:
            continue
        ends = [
            f"{name} {text}"
            for name, value, grid, text in (
                ("size", best.size, found.study.sizes, say.count(best.size)),
                ("thinking", best.thinking, found.study.thinking, f"{best.thinking:,.0f}"),
            )
            if value <= grid[0] * 1.001 or value >= grid[-1] * 0.999
        ]
        if ends:
            yield f"{mode}: the cheapest plan lies at the end of what was looked at ({', '.join(ends)}): widen it."
        if best.tokens_per_weight > 1000:
            yield (
                f"{mode}: {best.tokens_per_weight:,.0f} tokens a weight is beyond what the scaling law was fitted on, "
                "which overstates such models."
            )


def _doses(found: Tradeoff) -> str:
    taken = [each.choices[ANY] for each in found.answers.values()]
    parts = sorted(
        {f"{best.dose:.0%} of it for {say.usd(best.rl_usd)}".replace("%", " %") for best in taken if best}
    )
    return f"Bought: {' or '.join(parts)}." if parts else ""


def reasons(found: Tradeoff) -> list[tuple[str, str]]:
    """Return cells that the SLO or memory rules out, with the reason."""
    return [
        (
            f"{say.count(each.cell.size)} weights, {each.cell.strategy}, {each.cell.thinking:,.0f} tokens",
            words.clean(each.why_not),
        )
        for each in found.carried
        if each.why_not
    ]
