"""SIGTERM, as Ctrl-C: what is being done is given up in good order."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType


class Terminated(KeyboardInterrupt):
    """Raised on SIGTERM; whatever gives up in good order on Ctrl-C does so here."""


def heed_sigterm() -> None:
    """Make SIGTERM raise Terminated in the main thread."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def exit_code(error: BaseException | None) -> int:
    """Return what a shell expects of a program that was stopped: 128 and the number of the signal."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def drop_output() -> None:
    """Send what is still to be printed nowhere, so that the end of the program does not fail over it again."""
    import os

    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return
