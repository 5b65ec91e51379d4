"""Programs in simulated time: a generator yields what it waits for, and goes on at the instant that happens.

Nothing here knows of a clock: whoever lets time pass resolves futures. A program costs no event of its own, so that a
task of a thousand samples costs little more than its thousand requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: What a strategy's `run` is: it yields futures and groups, is sent their values, and returns its own.
Steps = Generator["Future[Any] | Group[Any]", Any, T]


class Future(Generic[T]):
    """Something that will have a value at some instant. One program or group at most waits for it."""

    __slots__ = ("_then", "done", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: T | None = None
        self._then: Callable[[Future[T]], None] | None = None

    def resolve(self, value: T) -> None:
        """Have the value now; who waits goes on before this returns."""
        self.done = True
        self.value = value
        then, self._then = self._then, None
        if then is not None:
            then(self)

    def then(self, go_on: Callable[[Future[T]], None]) -> None:
        """Call `go_on` as soon as there is a value."""
        if self.done:
            go_on(self)
        else:
            self._then = go_on

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self.done = True
        self._then = None


class Program(Future[T]):
    """A generator at work; its value is what the generator returns."""

    __slots__ = ("_steps", "_waits")

    def __init__(self, steps: Steps[T]) -> None:
        super().__init__()
        self._steps = steps
        self._waits: Future[Any] | Group[Any] | None = None

    def start(self) -> Program[T]:
        """Run to the first wait."""
        self._send(None)
        return self

    def cancel(self) -> None:
        """Stop here, and cancel what it waits for."""
        if self.done:
            return
        super().cancel()
        waits, self._waits = self._waits, None
        if waits is not None:
            waits.cancel()
        self._steps.close()

    def _go_on(self, future: Future[Any]) -> None:
        self._send(future.value)

    def _send(self, value: Any) -> None:
        send = self._steps.send
        try:
            while True:
                waits = send(value)
                if isinstance(waits, Group):
                    if not waits.ready:
                        waits.waiter = self._send
                        break
                    value = waits.ready.popleft()
                elif waits.done:
                    value = waits.value
                else:
                    waits.then(self._go_on)
                    break
        except StopIteration as stop:
            self._waits = None
            self.resolve(stop.value)
            return
        self._waits = waits


class Group(Generic[T]):
    """Futures waited for together: yielding a group gives the value of the next of them that has one."""

    __slots__ = ("pending", "ready", "waiter")

    def __init__(self, futures: Iterable[Future[T]]) -> None:
        self.ready: deque[T | None] = deque()
        self.waiter: Callable[[Any], None] | None = None
        self.pending: dict[Future[T], None] = {}
        for future in futures:
            self.add(future)

    def add(self, future: Future[T]) -> None:
        """Wait for one more."""
        self.pending[future] = None
        future.then(self._ended)

    def cancel(self) -> None:
        """Cancel those without a value yet."""
        self.waiter = None
        pending, self.pending = self.pending, {}
        for future in pending:
            future.cancel()

    def _ended(self, future: Future[T]) -> None:
        del self.pending[future]
        waiter = self.waiter
        if waiter is None:
            self.ready.append(future.value)
        else:
            self.waiter = None
            waiter(future.value)


def together(programs: Iterable[Steps[T]]) -> Group[T]:
    """Start programs side by side and return them as a group."""
    return Group([Program(steps).start() for steps in programs])


def all_of(programs: Iterable[Steps[T]]) -> Steps[list[T]]:
    """Run programs side by side and return their values, in the order in which they ended."""
    group = together(programs)
    values = []
    while group.pending or group.ready:
        values.append((yield group))
    return values
