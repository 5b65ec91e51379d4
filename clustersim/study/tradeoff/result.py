"""What a tradeoff study found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from clustersim.quality.solver import Mode
from clustersim.study.tradeoff.answer import ANY, DEMANDS, Answer
from clustersim.study.tradeoff.plans import Choice
from clustersim.study.tradeoff.schema import TradeoffStudy
from clustersim.study.tradeoff.serving import Carried
from clustersim.study.tradeoff.surfaces import Surfaces
from clustersim.training.curve import PerToken
from clustersim.versions import version_of


@dataclass(frozen=True)
class Tradeoff:
    """A study's answer in both modes of the quality model, with all that it rests on."""

    study: TradeoffStudy
    seed: int
    carried: Sequence[Carried]
    """Every simulated cell."""
    training: Mapping[int, Sequence[PerToken | None]]
    """Accelerators -> what a token takes at each of the study's sizes."""
    surfaces: Surfaces
    answers: Mapping[Mode, Answer]

    @property
    def names(self) -> tuple[str, str]:
        """The policies: the one that trains more, the one that thinks longer."""
        first, second = self.study.policies
        return first, second

    def optimum(self, mode: Mode = "log_compute") -> Choice | None:
        """Return the cheapest plan at the asked demand; None where nothing reaches the target."""
        return self.answers[mode].choices[ANY]

    @cached_property
    def cells(self) -> pd.DataFrame:
        """A row a simulated cell."""
        rows = [
            {
                "size": each.cell.size, "strategy": each.cell.strategy, "thinking_tokens": each.cell.thinking,
                "sample_accuracy": each.cell.sample_accuracy, "replica_accelerators": each.accelerators,
                "tasks_per_s": each.tasks_per_s, "rate_sd": each.rate_sd, "tokens_per_task": each.tokens_per_task,
                "usd_per_task": self.surfaces.serving_usd_per_accelerator_s * each.accelerators / each.tasks_per_s,
                "joules_per_task": each.busy_w / each.tasks_per_s, "busy_w": each.busy_w, "idle_w": each.idle_w,
                "step_time_rel_error": each.rel_error, "limit": each.limit, "runs": each.trials,
                "why_not": each.why_not,
            }
            for each in self.carried
        ]  # fmt: skip
        return pd.DataFrame(rows)

    @property
    def evidence(self) -> dict[str, float]:
        """Evidence -> its share of simulated step time, mean over cells."""
        known = [dict(each.evidence) for each in self.carried if not each.why_not]
        names = sorted({name for each in known for name in each})
        return {name: sum(each.get(name, 0.0) for each in known) / len(known) for name in names}

    def as_json(self) -> dict[str, Any]:
        """Return the study, the answers of both modes and what they rest on, as plain data."""
        return {
            "study": self.study.model_dump(mode="json", exclude_unset=True),
            "seed": self.seed,
            "clustersim_version": version_of("clustersim"),
            "queries_per_day": DEMANDS.tolist(),
            "answers": {mode: each.as_json() for mode, each in self.answers.items()},
            "training": {
                str(number): [None if each is None else asdict(each) for each in row]
                for number, row in self.training.items()
            },
            "num_simulations": sum(each.trials for each in self.carried),
            "step_time_by_evidence": self.evidence,
            "step_time_rel_error": self.surfaces.serving_error,
        }
