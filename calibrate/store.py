"""What a run measured, kept as it is measured: append-only lines that outlive kill -9.

    samples.jsonl   {"kind": "samples", ...Samples, "attempt", "block"}   one line a case, repetition and attempt
                    {"kind": "verdict", "block", "drift", "invalid"}      what the canary said of a block
                    {"kind": "session", ...}                              who measured, when, on what
    errors.jsonl    {"key", "case", "repetition", "what", "text", ...}    one line a failure

Each line is one write and one fsync. The last line of a killed session may be torn: it is kept, closed with a
newline, and passed over by readers. Nothing is ever rewritten.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from calibrate.case import Case, Samples
from calibrate.pace import reading_s

Done = frozenset[tuple[str, int]]
SAMPLES, ERRORS, MANIFEST = "samples.jsonl", "errors.jsonl", "manifest.json"
#: Failures of one case after which it is given up.
MOST_FAILURES = 2


class Store:
    """A folder of lines. One process writes at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in (SAMPLES, ERRORS):
            _close_torn_line(folder / name)

    def add(self, samples: Samples, *, attempt: int = 0, block: str = "") -> None:
        """Append one case's samples, which are safe on disk when this returns."""
        self._append(SAMPLES, {"kind": "samples", **samples.as_dict(), "attempt": attempt, "block": block})

    def add_verdict(self, block: str, drift: float, *, invalid: bool) -> None:
        """Append what the canary said of a block of cases: it took `drift` (a share) longer or shorter after it."""
        self._append(SAMPLES, {"kind": "verdict", "block": block, "drift": drift, "invalid": invalid})

    def add_session(self, facts: Mapping[str, Any]) -> None:
        """Append who measures from here on."""
        self._append(SAMPLES, {**facts, "kind": "session"})

    def add_error(self, case: Case, repetition: int, what: str, text: str) -> None:
        """Append a failure: `what` is "failed", "hung" or "died"."""
        failure = {
            "key": case.key,
            "case": case.as_dict(),
            "repetition": repetition,
            "what": what,
            "text": text,
        }
        self._append(ERRORS, failure)

    def _append(self, name: str, line: Mapping[str, Any]) -> None:
        data = json.dumps(line, allow_nan=False, default=str).encode() + b"\n"
        descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sessions(self) -> list[dict[str, Any]]:
        """Return the sessions that wrote here, in order."""
        return [line for line in read_lines(self.folder / SAMPLES) if line.get("kind") == "session"]

    def drifts(self) -> list[float]:
        """Return the canary's drift over each block, invalid ones included."""
        lines = read_lines(self.folder / SAMPLES)
        return [float(line["drift"]) for line in lines if line.get("kind") == "verdict"]

    def errors(self) -> list[dict[str, Any]]:
        """Return every failure, in order."""
        return list(read_lines(self.folder / ERRORS))

    def failures(self) -> Counter[str]:
        """Return the number of failures by case key."""
        return Counter(str(error["key"]) for error in self.errors())

    def all_samples(self) -> list[Samples]:
        """Return everything measured, in order, invalidated attempts flagged "canary_drift"."""
        return [samples for samples, _ in self._attempts()]

    def samples(self) -> list[Samples]:
        """Return one Samples a case and repetition: of those that no canary spoke against the last, else the last.

        Those with a reading of the core's pace of their own are not judged by a canary minutes away.
        """
        best: dict[tuple[str, int], tuple[bool, Samples]] = {}
        for samples, spared in self._attempts():
            key = (samples.case.key, samples.repetition)
            valid = spared or reading_s(samples.notes) is not None
            if key not in best or valid or not best[key][0]:
                best[key] = (valid, samples)
        return [samples for _, samples in best.values()]

    def _attempts(self) -> Iterator[tuple[Samples, bool]]:
        lines = list(read_lines(self.folder / SAMPLES))
        invalid = {line["block"] for line in lines if line.get("kind") == "verdict" and line["invalid"]}
        for line in lines:
            if line.get("kind") == "samples":
                valid = not line.get("block") or line["block"] not in invalid
                samples = samples_from(line)
                if not valid:
                    samples = _flagged(samples, "canary_drift")
                yield samples, valid

    def done(self, *, allow_contended: bool = False) -> Done:
        """Return (key, repetition) of what need not be measured again.

        Contended samples count only where they are allowed. Those that a canary spoke against count: the run that
        took them had its tries, and they stay flagged.
        """
        return frozenset(
            (samples.case.key, samples.repetition)
            for samples in self.samples()
            if allow_contended or "contended" not in samples.flags
        )

    def write_manifest(self) -> Path:
        """Write the sha256 and size of every file here, for whoever wants to know that nothing was changed."""
        return write_manifest(self.folder)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines that are whole; torn ones are passed over."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return
    for line in text.split(b"\n"):
        try:
            data = json.loads(line)
        except ValueError:
            continue
        if isinstance(data, dict):
            yield data


def samples_from(line: Mapping[str, Any]) -> Samples:
    """Return the Samples that a line of the store, or a worker's answer, holds."""
    return Samples(
        case=Case(**line["case"]), seconds=tuple(line["seconds"]), clock=line["clock"],
        calls_per_sample=line["calls_per_sample"], rank=line["rank"], node=line["node"],
        repetition=line["repetition"], steady=line["steady"], flags=tuple(line["flags"]), notes=line["notes"],
    )  # fmt: skip


def _flagged(samples: Samples, flag: str) -> Samples:
    from dataclasses import replace

    return replace(samples, flags=(*samples.flags, flag)) if flag not in samples.flags else samples


def _close_torn_line(path: Path) -> None:
    try:
        with path.open("rb+") as file:
            if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) is not None and file.read(1) != b"\n":
                file.write(b"\n")
                file.flush()
                os.fsync(file.fileno())
    except FileNotFoundError:
        return


def write_manifest(folder: Path) -> Path:
    """Write manifest.json: {file: {sha256, bytes}} of every file below `folder` but itself."""
    path = folder / MANIFEST
    files = sorted(each for each in folder.rglob("*") if each.is_file() and each != path)
    found = {
        each.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(each.read_bytes()).hexdigest(),
            "bytes": each.stat().st_size,
        }
        for each in files
    }
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return path
