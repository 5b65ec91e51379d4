"""How far a run is and when it will end: a bar for people, nothing for pipes and tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """Told what happens; says when it will be over."""

    def start(self, left_s: float) -> None:
        """A repetition begins or its queue changed: the predicted seconds of everything left."""

    def doing(self, what: str, predicted_s: float) -> None:
        """Something begins."""

    def did(self) -> None:
        """It ended, well or not."""


class Eta:
    """Seconds left: those predicted, times how much longer than predicted things took so far."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now, self.left_s, self.predicted_s, self.taken_s = now, 0.0, 0.0, 0.0
        self._current: tuple[float, float] | None = None

    def start(self, left_s: float) -> None:
        """Set what is left, in predicted seconds."""
        self.left_s = left_s

    def doing(self, what: str, predicted_s: float) -> None:  # noqa: ARG002 - a contract
        """Begin something."""
        self._current = (self.now(), predicted_s)

    def did(self) -> None:
        """End it."""
        if self._current:
            began, predicted = self._current
            self.taken_s += self.now() - began
            self.predicted_s += predicted
            self.left_s = max(0.0, self.left_s - predicted)
            self._current = None

    @property
    def seconds(self) -> float:
        """Return the seconds left."""
        pace = self.taken_s / self.predicted_s if self.predicted_s > 0 else 1.0
        return self.left_s * pace


@contextmanager
def bar(*, quiet: bool = False) -> Iterator[Progress]:
    """Show a bar on stderr while a run goes on, where stderr is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Rich

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield Eta()
        return
    columns = (TextColumn("{task.fields[what]:44.44}"), BarColumn(), TextColumn("{task.fields[eta]}"))
    with Rich(*columns, console=console, transient=True) as rich:
        task = rich.add_task("", total=1.0, what="starting", eta="")

        class Shown(Eta):
            def start(self, left_s: float) -> None:
                super().start(left_s)
                self._show()

            def doing(self, what: str, predicted_s: float) -> None:
                super().doing(what, predicted_s)
                rich.update(task, what=what)

            def did(self) -> None:
                super().did()
                self._show()

            def _show(self) -> None:
                from clustersim.units import duration

                done, left = self.taken_s, self.seconds
                rich.update(task, completed=done, total=max(done + left, 1e-9), eta=f"{duration(left)} left")

        yield Shown()
