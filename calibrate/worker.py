"""The child process that holds the device: it answers one request a line, and can be killed at any moment.

    {"ask": "hello"}                       -> {"name", "kind", "accelerator", "dtypes", "provenance", ...}
    {"ask": "cases", "plan", "benches"}    -> {"cases": [{case, work, family}], "gaps": {bench: [why]}}
    {"ask": "measure", "case", "rule", ..} -> {"samples": {...}}
    anything that raises                   -> {"error": {"type", "text"}}

Requests come on stdin, answers go to the stdout it was started with; whatever libraries print goes to stderr.
It ends with its stdin, and on Linux with its parent, a parent killed -9 included.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import IO, Any

from calibrate.backend import DeviceBackend
from calibrate.benches import Bench
from calibrate.case import Case
from calibrate.timing import Rule, measure

Device = tuple[DeviceBackend, Mapping[str, Bench]]
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def local(backend: str = "", threads: int = 1) -> Device:
    """Return this host's device and every benchmark."""
    from calibrate.backends import pick_backend
    from calibrate.benches import benches

    return pick_backend(backend or None, threads), benches()


def provider(spec: str) -> Callable[..., Device]:
    """Return the function that "module:function" names."""
    module, _, name = spec.partition(":")
    found: Callable[..., Device] = getattr(importlib.import_module(module), name)
    return found


def answer(request: Mapping[str, Any], device: Device) -> dict[str, Any]:
    """Answer one request."""
    backend, benches = device
    match request["ask"]:
        case "hello":
            return {
                "name": backend.name, "kind": backend.kind, "clock": backend.clock, "dtypes": list(backend.dtypes),
                "torch_device": backend.torch_device, "provenance": dict(backend.provenance()),
                "accelerator": getattr(backend, "accelerator", ""), "memory_bytes": _memory_bytes(backend),
            }  # fmt: skip
        case "cases":
            return _cases(request, device)
        case "measure":
            case = Case(**request["case"])
            call = benches[case.bench].prepare(case, backend)
            try:
                samples = measure(
                    case,
                    call,
                    backend,
                    Rule(**request["rule"]),
                    repetition=request["repetition"],
                    node=request["node"],
                )
            finally:
                del call
                gc.collect()
            return {"samples": samples.as_dict()}
        case other:
            raise ValueError(f"no request {other!r}")


def _memory_bytes(backend: DeviceBackend) -> float:
    try:
        return float(backend.memory_bytes)
    except NotImplementedError:
        return 0.0


def _cases(request: Mapping[str, Any], device: Device) -> dict[str, Any]:
    backend, benches = device
    wanted = request["benches"] or list(benches)
    if missing := [name for name in wanted if name not in benches]:
        from clustersim.errors import InputError, unknown

        raise InputError(unknown("benchmark", missing[0], benches))
    found: list[dict[str, Any]] = []
    gaps: dict[str, list[str]] = {}
    for name in wanted:
        bench = benches[name]
        gaps[name] = list(bench.gaps(backend))
        for case in bench.cases(request["plan"], backend):
            work = asdict(bench.work(case))
            found.append({"case": case.as_dict(), "work": work, "family": bench.family})
    return {"cases": found, "gaps": gaps}


def serve(device: Callable[[], Device], requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until they end. The device is opened at the first one, so that its failure is an answer too."""
    opened: Device | None = None
    for line in requests:
        try:
            opened = opened or device()
            reply = answer(json.loads(line), opened)
        except Exception as error:  # noqa: BLE001 - a case that fails is a result: it is recorded and the next one runs
            reply = {"error": {"type": type(error).__name__, "text": str(error) or repr(error)}}
        answers.write(json.dumps(reply, default=str) + "\n")
        answers.flush()


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends; where it cannot, the end of stdin must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main(spec: str, options: str, parent: str) -> None:
    """Serve on this process's stdin and stdout."""
    die_with_parent(int(parent))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    settings: dict[str, Any] = json.loads(options)
    serve(lambda: provider(spec)(**settings), sys.stdin, answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
