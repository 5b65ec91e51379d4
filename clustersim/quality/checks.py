"""The quality model against every published point that it can be held against, its failures among them.

python -m clustersim.quality.checks     prints the tables of docs/background/quality.md
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import logit

from clustersim import library
from clustersim.quality import observations as seen
from clustersim.quality.benchmark import Anchor, Benchmark, load_benchmark
from clustersim.quality.exchange import EXCHANGES, HEX, inference_decades
from clustersim.quality.parallel import coverage, plurality, vote
from clustersim.quality.parameters import PARAMETERS, Parameters
from clustersim.quality.scaling import EPOCH_REFIT
from clustersim.quality.solver import Basis, solver
from clustersim.quality.trained_model import load_trained_model

#: Whether a number of the model was chosen on the point ("in sample"), so that agreement proves nothing.
Kind = Literal["by construction", "in sample", "out of sample"]


@dataclass(frozen=True)
class Check:
    """One published value and the model's; both accuracies unless `unit` says otherwise."""

    what: str
    observed: float
    predicted: float
    kind: Kind
    source: str
    unit: str = ""

    @property
    def error(self) -> float:
        """Return predicted less observed."""
        return self.predicted - self.observed


@dataclass(frozen=True)
class LeftOut:
    """An anchor predicted from the others, of its family where there are any; `logits` is the error on that scale."""

    benchmark: str
    model: str
    basis: Basis
    observed: float
    predicted: float
    logits: float


def checks(parameters: Parameters | None = None) -> tuple[Check, ...]:
    """Return every check, with the given parameters or the defaults."""
    p = parameters or Parameters()
    return (*_votes(p), *_slopes(p), *_serial(p), *_exchanges(p), *_training())


def left_out(
    parameters: Parameters | None = None, benchmarks: Sequence[str] | None = None
) -> tuple[LeftOut, ...]:
    """Return each anchor predicted from its family less itself, and from other families, in natural lengths."""
    found = []
    for name in benchmarks or library.names("benchmarks"):
        benchmark = load_benchmark(name)
        for anchor in benchmark.anchors:
            others = [each for each in benchmark.anchors if each.model.family != anchor.model.family]
            family = [each for each in benchmark.anchors if each not in (anchor, *others)]
            found += [_without(benchmark, anchor, rest, parameters) for rest in (family, others) if rest]
    return tuple(found)


def _without(
    benchmark: Benchmark, anchor: Anchor, rest: Sequence[Anchor], parameters: Parameters | None
) -> LeftOut:
    guess = solver(
        anchor.model, benchmark.model_copy(update={"anchors": tuple(rest)}), parameters=parameters,
        natural_tokens=anchor.thinking_tokens.value, unanchored=True,
    )  # fmt: skip
    predicted, observed = float(guess.mean_accuracy().item()), anchor.accuracy.value
    floor, cap = benchmark.floor.value, benchmark.cap.value
    logits = logit((predicted - floor) / (cap - floor)) - logit((observed - floor) / (cap - floor))
    return LeftOut(benchmark.name, anchor.model.name, guess.basis, observed, predicted, float(logits))


def root_mean_square(rows: Sequence[LeftOut]) -> float:
    """Return the root mean square error in logits."""
    return math.sqrt(sum(row.logits**2 for row in rows) / len(rows))


def _kind(chosen: bool) -> Kind:
    return "in sample" if chosen else "out of sample"


def _votes(p: Parameters) -> Iterator[Check]:
    nu, t = p.heterogeneity, p.plurality_threshold
    for model, single, voted, chosen, source in seen.VOTES_OF_64:
        predicted = float(vote(single, 64, nu, t).item())
        yield Check(
            f"{model}, AIME 2024, vote of 64 from {single:.1%}", voted, predicted, _kind(chosen), source
        )
    start = seen.O1_MINI_SINGLE[-1][1]
    for k, voted in seen.O1_MINI_VOTES:
        predicted = float(vote(start, k, nu, t).item())
        yield Check(f"o1-mini, AIME 2024, vote of about {k} from {start:.1%}", voted, predicted, "out of sample",
                    seen.O1_MINI)  # fmt: skip
    (few, _), (many, voted) = seen.ARC_O3
    mean = load_benchmark("arc-agi-1").anchors[0].accuracy.value
    predicted = float(vote(mean, many, nu, t).item())
    yield Check(
        f"o3, ARC-AGI-1, vote of {many} from that of {few}", voted, predicted, "in sample", seen.ARC_O3_SOURCE
    )
    raw = _solve_plurality(few, seen.ARC_O3[0][1], p)
    predicted = float(plurality(raw, many, nu, t).item())
    yield Check(
        f"the same, {few} samples not interpolated", voted, predicted, "in sample", seen.ARC_O3_SOURCE
    )
    for what, single, k, covered, chosen, source in seen.COVERAGES:
        predicted = float(coverage(single, k, nu).item())
        yield Check(f"{what}, coverage of {k} from {single:.1%}", covered, predicted, _kind(chosen), source)


def _solve_plurality(k: int, reached: float, p: Parameters) -> float:
    from scipy.optimize import brentq

    def miss(mean: float) -> float:
        return float(plurality(mean, k, p.heterogeneity, p.plurality_threshold).item()) - reached

    return float(brentq(miss, 1e-3, 1 - 1e-3))


def _slopes(p: Parameters) -> Iterator[Check]:
    predicted = p.parallel_discount * p.logit_per_decade_tokens
    for what, observed, chosen, source in seen.PARALLEL_SLOPES:
        yield Check(f"{what}: logits a tenfold", observed, predicted, _kind(chosen), source, "logit")


def _serial(p: Parameters) -> Iterator[Check]:
    aime = load_benchmark("aime24")
    mini = solver(load_trained_model("o1-mini"), aime, parameters=p)
    for tokens, observed in seen.O1_MINI_SINGLE:
        predicted = float(mini.mean_accuracy(tokens).item())
        yield Check(f"o1-mini, AIME 2024, {tokens:,} tokens", observed, predicted, "in sample", seen.O1_MINI)
    r1_alone = aime.model_copy(update={"anchors": aime.anchors[:1]})
    yield _from_one(r1_alone, aime, "deepseek-v3", "by construction", p)
    yield _from_one(r1_alone, aime, "deepseek-r1-zero", "out of sample", p)
    yield _from_one(_only(aime, "gpt-4o"), aime, "o1", "out of sample", p)
    yield _from_one(_only(aime, "o1"), aime, "o1-preview", "out of sample", p)
    newer = load_benchmark("aime25")
    yield _from_one(_only(newer, "deepseek-r1"), newer, "deepseek-r1-0528", "out of sample", p)
    llama = solver(
        load_trained_model("llama-3.1-405b-instruct"), r1_alone, parameters=p, natural_tokens=1000, unanchored=True
    )  # fmt: skip
    predicted = float(llama.mean_accuracy().item())
    yield Check("Llama 3.1 405B Instruct, AIME 2024, 1,000 tokens, from deepseek-r1, another family", seen.LLAMA_405B,
                predicted, "out of sample", seen.LLAMA_405B_SOURCE)  # fmt: skip


def _only(benchmark: Benchmark, model: str) -> Benchmark:
    kept = tuple(anchor for anchor in benchmark.anchors if anchor.model.name == model)
    return benchmark.model_copy(update={"anchors": kept})


def _from_one(one: Benchmark, full: Benchmark, model: str, kind: Kind, p: Parameters) -> Check:
    """Predict the anchor of `model` in `full` from the only anchor of `one`, at its own length."""
    target = _only(full, model).anchors[0]
    guess = solver(target.model, one, parameters=p, natural_tokens=target.thinking_tokens.value)
    predicted = float(guess.mean_accuracy().item())
    what = (
        f"{model}, {full.name}, {target.thinking_tokens.value:,.0f} tokens, from {one.anchors[0].model.name}"
    )
    return Check(what, target.accuracy.value, predicted, kind, target.accuracy.source)


def _exchanges(p: Parameters) -> Iterator[Check]:
    for each in EXCHANGES:
        middle = (each.inference_low + each.inference_high) / 2 / each.train_decades
        kind: Kind = "by construction" if each is HEX else "out of sample"
        yield Check(f"{each.what}: tenfolds of inference for one of training", middle, inference_decades(p), kind,
                    each.source, "tenfolds")  # fmt: skip


def _training() -> Iterator[Check]:
    tokens = float(EPOCH_REFIT.optimum(3.8e25).tokens.item()) / 1e12
    yield Check("compute-optimal tokens for 3.8e25 FLOP against Llama 3's law", seen.LLAMA_TOKENS / 1e12, tokens,
                "out of sample", seen.LLAMA_TOKENS_SOURCE, "T tokens")  # fmt: skip


def checks_table() -> str:
    """Return the checks as a Markdown table."""
    lines = ["| what | published | model | error | kind |", "|---|---|---|---|---|"]
    for each in checks():
        if each.unit:
            numbers = f"{each.observed:.3g} | {each.predicted:.3g} | {each.error:+.2g} {each.unit}"
        else:
            numbers = f"{each.observed:.1%} | {each.predicted:.1%} | {100 * each.error:+.1f} points"
        lines.append(f"| {each.what} | {numbers} | {each.kind} |")
    return "\n".join(lines)


def parameters_table() -> str:
    """Return the parameters as a Markdown table."""
    lines = ["| parameter | default | range | evidence | source |", "|---|---|---|---|---|"]
    for name, each in PARAMETERS.items():
        lines.append(
            f"| `{name}` | {each.value:g} | {each.low:g} to {each.high:g} | {each.evidence} | {each.source} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(parameters_table(), checks_table(), sep="\n\n")
