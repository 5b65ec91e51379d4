"""How routing spreads tokens over the experts of a layer. One file a law."""

from __future__ import annotations

from abc import abstractmethod

from clustersim.kinds import Part

#: Share of a layer's (token, expert) pairs that each expert gets, the most popular first; they add up to 1.
Shares = tuple[float, ...]


class Popularity(Part):
    """Base of the laws. Which expert is popular differs from layer to layer; how popular, does not."""

    @abstractmethod
    def shares(self, num_experts: int, top_k: int) -> Shares:
        """Return the shares of the experts, none above 1/top_k, since a token goes to an expert at most once.

        Raises InputError where these experts cannot be so popular.
        """


def most_popular(weights: list[float], top_k: int) -> Shares:
    """Return weights as shares of 1, the largest first; an expert of every token has 1/top_k, others the rest."""
    ranked, limit = sorted(weights, reverse=True), 1.0 / top_k
    left, rest = 1.0, sum(ranked)
    if ranked[0] <= limit * rest:
        return tuple(weight / rest for weight in ranked)
    found = []
    for weight in ranked:
        share = left * weight / rest if rest > 0 else 0.0
        found.append(min(share, limit))
        left, rest = left - found[-1], rest - weight
    return tuple(found)
