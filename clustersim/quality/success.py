"""The chance that one attempt at one problem is right, by the problem's difficulty and the effort spent on it.

Mean accuracy at an effort x (thinking tokens over the natural length) follows the logit law in log tokens:
logit m(x) = logit m(1) + kT log10(min(x, saturation)), between floor and cap. Problems differ as
p ~ Beta(nu m, nu (1 - m)), and keep their rank: the problem at quantile q of difficulty has the (1 - q) quantile.
"""

from __future__ import annotations

from math import exp, log, log10

from scipy.special import betaincinv

from clustersim.records import Floats


class Success:
    """Chances of success of one model on one benchmark.

    accuracy: mean of single attempts at natural length, strictly between floor and cap. logit_per_decade: kT.
    saturation: the effort beyond which more thinking adds nothing. heterogeneity: nu.
    """

    def __init__(
        self, accuracy: float, *, logit_per_decade: float, saturation: float, heterogeneity: float,
        floor: float = 0.0, cap: float = 1.0,
    ) -> None:  # fmt: skip
        if not floor < accuracy < cap:
            raise ValueError(f"accuracy must lie between floor {floor:g} and cap {cap:g}, not {accuracy:g}")
        self.floor, self.cap = floor, cap
        self.saturation = saturation
        self.heterogeneity = heterogeneity
        self.logit_per_decade = logit_per_decade
        self._logit = log((accuracy - floor) / (cap - accuracy))
        self._known: tuple[float, float, float] = (-1.0, 0.0, 0.0)

    def mean(self, effort: float) -> float:
        """Return the mean accuracy over all problems at an effort above 0."""
        logit = self._logit + self.logit_per_decade * log10(min(effort, self.saturation))
        return self.floor + (self.cap - self.floor) / (1 + exp(-logit))

    def at(self, difficulty: float, effort: float) -> float:
        """Return the chance at one quantile of difficulty, 0 easiest and 1 hardest."""
        known = self._known
        if known[0] == difficulty and known[1] == effort:
            return known[2]  # the samples of one task ask the same
        m, nu = self.mean(effort), self.heterogeneity
        chance = float(betaincinv(nu * m, nu * (1 - m), 1 - difficulty))
        self._known = (difficulty, effort, chance)
        return chance

    def of(self, difficulty: Floats) -> Floats:
        """Return the chances (n,) at quantiles (n,) of difficulty, at natural effort."""
        m, nu = self.mean(1.0), self.heterogeneity
        chances: Floats = betaincinv(nu * m, nu * (1 - m), 1 - difficulty)
        return chances
