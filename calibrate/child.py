"""The parent's end of a worker: start it, ask it with a time limit, kill it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class WorkerError(Exception):
    """A case was not measured: `what` is "failed" (it raised), "hung" (killed at its limit) or "died"."""

    def __init__(self, what: str, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.what, self.text, self.kind = what, text, kind


class Child:
    """A worker process, in a session of its own so that Ctrl-C reaches the parent alone."""

    def __init__(self, provider: str, options: Mapping[str, Any], log: Path) -> None:
        self.log = log
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "calibrate.worker", provider, json.dumps(dict(options)), str(os.getpid())],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment,
                start_new_session=True,
            )  # fmt: skip
        self._read = b""

    def ask(self, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Return the answer; raises WorkerError, after which a hung or dead worker is gone."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            reply: dict[str, Any] = json.loads(self._line(time.monotonic() + timeout_s))
        except TimeoutError:
            self.kill()
            raise WorkerError("hung", f"no answer after {timeout_s:.0f} s; its process was killed") from None
        except (EOFError, BrokenPipeError):
            self.kill()
            raise WorkerError(
                "died", f"exit status {self.process.returncode}; {self._last_words()}"
            ) from None
        if "error" in reply:
            error = reply["error"]
            raise WorkerError("failed", f"{error['type']}: {error['text']}", error["type"])
        return reply

    def _line(self, deadline: float) -> bytes:
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self._read:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            data = os.read(descriptor, 1 << 20)
            if not data:
                raise EOFError
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return f"its last words: {lines[-1][:300]}" if lines else "it said nothing"

    @property
    def alive(self) -> bool:
        """Return whether it can be asked."""
        return self.process.poll() is None

    def close(self, grace_s: float = 5.0) -> None:
        """Let it end by itself, else kill it."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_s)
        self.kill()

    def kill(self) -> None:
        """Kill it and everything it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
