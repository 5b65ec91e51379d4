"""Everybody is let in."""

from __future__ import annotations

from typing import ClassVar, Literal

from clustersim.kinds import register
from clustersim.serving.admission import Admission, Admit, Entrance


@register("admission")
class AcceptAll(Admission):
    """Let every request in that a replica could hold, as serving engines do by themselves."""

    kind: Literal["accept_all"] = "accept_all"
    examples: ClassVar[tuple[dict[str, object], ...]] = ({},)

    def start(self, entrance: Entrance) -> Admit | None:  # noqa: ARG002 - the contract's
        """See the class."""
        return None
