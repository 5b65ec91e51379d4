"""What a loader may do with any input: take it, or refuse it in words. Nothing else, and not for long."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from clustersim.errors import InputError

#: Far beyond what any input of these tests takes on the slowest machine; without it, a hang would show as nothing.
LIMIT_S = 120


@contextlib.contextmanager
def takes_or_refuses() -> Iterator[None]:
    """Let InputError pass if its words are fit to be read; every other exception is the test's failure."""
    refused: InputError | None = None
    with _ends():
        try:
            yield
        except InputError as error:
            refused = error
    if refused is not None:
        assert refused.problems
        for line in map(str, refused.problems):
            assert line.strip(), "an empty message"
            assert line.isprintable(), line
            assert len(line) < 4000, line
            assert "Extra inputs are not permitted" not in line


@contextlib.contextmanager
def _ends() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(*_: object) -> None:
        raise AssertionError(f"still busy after {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
