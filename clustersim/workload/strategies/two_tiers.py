"""What strategies with a cheap and a strong tier have in common."""

from __future__ import annotations

from collections.abc import Iterator

from clustersim.workload.strategies import AnyStrategy, Strategy
from clustersim.workload.strategies.chain_of_thought import ChainOfThought


class TwoTiers(Strategy):
    """A cheap and a strong strategy, each on the deployment it names or on the workload's own."""

    cheap: AnyStrategy = ChainOfThought()
    cheap_to: str | None = None
    """Deployment of the cheap strategy; the workload's own if not given."""
    strong: AnyStrategy = ChainOfThought()
    strong_to: str | None = None
    """Deployment of the strong strategy; the workload's own if not given."""

    def answering(self) -> Iterator[str]:
        """Yield the deployments of both tiers."""
        yield from (to for to in (self.cheap_to, self.strong_to) if to is not None)
        yield from super().answering()

    def deployments(self) -> Iterator[str]:
        """Yield the names of the deployments that the program calls beside its workload's own."""
        yield from (to for to in (self.cheap_to, self.strong_to) if to is not None)
        yield from super().deployments()
