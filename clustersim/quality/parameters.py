"""The numbers of the quality model: each with its default, range, evidence and source.

They are data (`PARAMETERS`); `Parameters` is one choice of all of them. Ranges are what fits to different
benchmarks and models gave, not confidence intervals of one fit, and are taken as independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field

from clustersim.kinds import Value
from clustersim.quality.ranged import Evidence, Ranged
from clustersim.randomness import stream


def _figure(value: float, low: float, high: float, evidence: Evidence, source: str) -> Ranged[float]:
    return Ranged(value=value, low=low, high=high, evidence=evidence, source=source, date="2026-11-22")


PARAMETERS: Mapping[str, Ranged[float]] = MappingProxyType(
    {
        "logit_per_decade_compute": _figure(
            1.05, 0.6, 1.4, "fitted",
            "slopes within families over 121 base models (ryoungj/ObsScaling base_llm_benchmark_eval.csv): GSM8K "
            "1.09±0.10, MMLU 0.92±0.11, HellaSwag 0.79±0.04, ARC-C 0.73±0.04, HumanEval 0.61±0.05; chosen near the top",
        ),
        "logit_per_decade_tokens": _figure(
            0.90, 0.7, 1.15, "fitted",
            "o1-mini on AIME 2024, hughbzhang/o1_inference_scaling_laws@4cf12c6: 0.952±0.20 single samples, "
            "0.859±0.11 with votes",
        ),
        "logit_per_nat": _figure(
            9.2, 5.7, 10.5, "fitted",
            "accuracy against pre-training loss, the same base models: MMLU 9.21, GSM8K 10.5, HumanEval 5.7, ARC-C 6.0",
        ),
        "heterogeneity": _figure(
            1.2, 0.8, 2.5, "fitted",
            "chosen among 0.8, 1.2, 1.6, 2.5 on three votes, o3 on ARC-AGI-1 and coverage of SWE-bench Lite, which "
            "alone gives 0.77",
        ),
        "plurality_threshold": _figure(
            0.35, 0.25, 0.5, "fitted",
            "chosen among 0.25, 0.35, 0.5 on the same points; ten other votes on AIME 2024 fit 0.25 better",
        ),
        "reasoning_shift": _figure(
            1.3, 0.8, 2.0, "fitted",
            "DeepSeek-V3 39.2 % to R1 79.8 % on AIME 2024 less the part of longer thinking, no degree of freedom left; "
            "GPT-4o to o1 leaves 2.0",
        ),
        "saturation_multiple": _figure(
            4.5, 3.0, 6.0, "assumed",
            "middle of the range; extra thinking stops helping or hurts, arXiv:2504.07128 and 2505.17813 (abstracts)",
        ),
        "parallel_discount": _figure(
            0.4, 0.33, 0.6, "fitted",
            "0.36 logit a decade of samples, o3 on ARC-AGI-1 (arcprize.org/blog/oai-o3-pub-breakthrough); o1 cons@64 "
            "0.30, R1-Zero 0.54; by 0.90 a decade of serial tokens",
        ),
        "progress_per_year": _figure(
            3.0, 1.5, 6.0, "assumed", "claimed in public talks; Ho et al. 2024 has about 3; not confirmed"
        ),
        "thinking_per_difficulty": _figure(
            0.35, 0.0, 0.5, "assumed", "invented: harder problems are thought about longer; no measurement found"
        ),
        "same_family_sd": _figure(
            0.67, 0.2, 0.9, "fitted",
            "each anchor of the shelf predicted from the others of its family, whose post-training differs: 0.67; "
            "0.2 to 0.4 for base models within a family, ryoungj/ObsScaling",
        ),
        "cross_family_sd": _figure(
            1.2, 0.5, 1.5, "fitted",
            "each anchor of the shelf predicted from other families: 1.37; 0.5 to 1.2 for base models, "
            "ryoungj/ObsScaling",
        ),
        "moe_exponent": _figure(
            0.4, 0.3, 0.5, "assumed", "rule of thumb: 0.5 is sqrt(active x total); not confirmed"
        ),
        "repetition_decay": _figure(
            15.4, 10.0, 20.0, "assumed",
            "R* of Muennighoff et al. 2023, arXiv:2305.16264, digits not confirmed; range assumed"
        ),
        "synthetic_value": _figure(
            0.5, 0.0, 1.0, "assumed", "no measurement found: anything from worthless to as good as text"
        ),
    }
)  # fmt: skip


def _default(name: str) -> Any:
    return Field(default=PARAMETERS[name].value)


_Positive = Annotated[float, Field(gt=0)]
_NotNegative = Annotated[float, Field(ge=0)]
_Share = Annotated[float, Field(ge=0, le=1)]


class Parameters(Value):
    """One choice of every number of the quality model; the default of each is that of `PARAMETERS`."""

    logit_per_decade_compute: _Positive = _default("logit_per_decade_compute")
    """kC: logits of accuracy a tenfold of effective training compute (mode `log_compute`)."""
    logit_per_decade_tokens: _Positive = _default("logit_per_decade_tokens")
    """kT: logits a tenfold of serial thinking tokens."""
    logit_per_nat: _Positive = _default("logit_per_nat")
    """Logits a nat of pre-training loss (mode `loss_linked`)."""
    heterogeneity: _Positive = _default("heterogeneity")
    """nu: problems are solved with probabilities ~ Beta(nu m, nu (1 - m)); small is all or nothing."""
    plurality_threshold: Annotated[float, Field(gt=0, lt=1)] = _default("plurality_threshold")
    """t: the share of samples above which the right answer wins a vote."""
    reasoning_shift: float = _default("reasoning_shift")
    """rho: logits that training to reason with reinforcement learning adds."""
    saturation_multiple: Annotated[float, Field(ge=1)] = _default("saturation_multiple")
    """Thinking beyond this many times the natural mean length adds nothing."""
    parallel_discount: _Share = _default("parallel_discount")
    """What a tenfold of parallel samples adds, as a share of what a tenfold of serial tokens adds."""
    progress_per_year: _Positive = _default("progress_per_year")
    """g: the factor a year by which algorithms multiply effective compute."""
    thinking_per_difficulty: _NotNegative = _default("thinking_per_difficulty")
    """How far ln(thinking tokens) rises by a unit of difficulty."""
    same_family_sd: _NotNegative = _default("same_family_sd")
    """Standard deviation, logits, of a prediction from another model of the family."""
    cross_family_sd: _NotNegative = _default("cross_family_sd")
    """Standard deviation, logits, of a prediction from other families."""
    moe_exponent: _Share = _default("moe_exponent")
    """x in N_active (N_total / N_active)**x, the dense size that a mixture of experts equals in loss."""
    repetition_decay: _Positive = _default("repetition_decay")
    """R*: repetitions of data after which their worth has fallen by 1/e."""
    synthetic_value: _Share = _default("synthetic_value")
    """q: what a synthetic token is worth in real ones."""


def draw_parameters(seed: int, num: int, central: Parameters | None = None) -> tuple[Parameters, ...]:
    """Return `num` choices of all parameters, each drawn from a triangle over its range with its mode at the default.

    Those that were set in `central` keep its value. Draws are independent, one random stream a parameter, so
    a new parameter leaves the old draws as they were.
    """
    held = {} if central is None else {name: getattr(central, name) for name in central.model_fields_set}
    columns = {
        name: figure.draw(stream(seed, "quality", "parameters", name), num).tolist()
        for name, figure in PARAMETERS.items()
        if name not in held
    }
    return tuple(
        Parameters(**held, **{name: column[index] for name, column in columns.items()})
        for index in range(num)
    )
