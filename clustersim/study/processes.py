"""Processes that share work and end with the one that started them, on Ctrl-C and SIGTERM too."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context


@contextmanager
def workers(number: int) -> Iterator[ProcessPoolExecutor]:
    """Give so many fresh processes; if the block does not end well they are stopped in the midst of their work.

    Fresh, since a fork would inherit the progress bar's thread. Submit inside `deaf`, for work starts them.
    """
    with ProcessPoolExecutor(number, mp_context=get_context("spawn")) as pool:
        try:
            yield pool
        except BaseException:
            for child in active_children():
                child.terminate()
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def deaf() -> Iterator[None]:
    """Start processes that do not hear a terminal's Ctrl-C, which goes to all: the first of them ends the rest.

    They inherit a mask from this thread; here, Ctrl-C is only put off to the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
