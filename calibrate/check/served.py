"""The served model on this machine's clock: single steps for the step errors, a load for the latencies."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from calibrate.backend import DeviceBackend
from calibrate.check.deployment import HostTimes, latencies
from calibrate.check.engine import Engine, Served, WorkClock
from calibrate.check.model import PAGE, Chunk, Laps, Prepared, ServedLlama
from calibrate.check.steps import Step
from calibrate.pace import read_s
from clustersim.models.spec import ModelSpec
from clustersim.workload.generate import Requests

#: Batches at which the engine's own code is timed, and how often.
_HOST_BATCHES, _HOST_REPEATS = (1, 4, 16, 32), 15


class Outcome(NamedTuple):
    """What a load met: latencies in seconds by name, steps, clock and wall seconds, and the share of it spent idle."""

    latencies_s: Mapping[str, np.ndarray]
    num_steps: int
    clock_s: float
    wall_s: float
    busy_frac: float
    num_preemptions: int


@dataclass
class ServedModel:
    """A model on a device, both a `steps.Stepper` and an `engine.Model`."""

    spec: ModelSpec
    dtype: str
    backend: DeviceBackend
    num_pages: int
    by_operator: bool = True
    """Whether single steps are also timed operator by operator, which costs two readings of the clock each."""

    def __post_init__(self) -> None:
        self.llama = ServedLlama(self.spec, self.dtype, self.backend, self.num_pages)
        self._pages = np.random.default_rng(0).permutation(self.num_pages)

    def time(self, step: Step) -> tuple[float, Mapping[str, float]]:
        """Carry out one step of made-up sequences, inputs laid out beforehand."""
        prepared = self._prepared(step)
        if not self.by_operator:
            return self.backend.time(lambda: self.llama.forward(prepared)), {}
        laps = Laps(time.thread_time)
        seconds = self.backend.time(lambda: self.llama.forward(prepared, laps))
        return seconds, laps.seconds

    def pace_s(self) -> float:
        """Return the core's pace, as `pace.read_s` does; 0 where the backend has no spacer."""
        spacer = self.backend.spacer()
        return read_s(self.backend, spacer) if spacer else 0.0

    def step(self, decoding: Sequence[Chunk], prefilling: Sequence[Chunk]) -> None:
        """Carry out one step of an engine."""
        self.llama.forward(self.llama.prepare(decoding, prefilling))

    def _prepared(self, step: Step) -> Prepared:
        if step.kind == "prefill":
            return self.llama.prepare(
                [], [Chunk(step.batch, step.context, self._dealt(step.batch + step.context))]
            )
        each = -(-step.context // PAGE)
        dealt = self._dealt(step.batch * each * PAGE)
        parts = [dealt[index * each : (index + 1) * each] for index in range(step.batch)]
        return self.llama.prepare([Chunk(1, step.context - 1, pages) for pages in parts], [])

    def _dealt(self, tokens: int) -> list[int]:
        found: list[int] = self._pages[: -(-tokens // PAGE)].tolist()
        return found

    def host_times(self) -> HostTimes:
        """Return what scheduling and the laying out of inputs take, without the model, fitted over batch sizes."""
        sizes, seconds = [], []
        for batch in _HOST_BATCHES:
            took = [self._host_s(batch) for _ in range(_HOST_REPEATS)]
            sizes.append(batch)
            seconds.append(float(np.median(took[1:])))
        slope, level = np.polyfit(sizes, seconds, 1)
        return HostTimes(max(float(level), 0.0), max(float(slope), 0.0))

    def _host_s(self, batch: int) -> float:
        engine = Engine(_Layout(self), WorkClock())
        running = [Served(0.0, 127, 9, computed=127, made=1) for _ in range(batch)]
        engine.running = running
        for sequence in running:
            engine._grow(sequence, 0)
        begin = time.thread_time()
        engine.step()
        return time.thread_time() - begin

    def serve(self, requests: Requests, token_budget: int, max_num_seqs: int) -> Outcome:
        """Serve a load on the CPU time of this thread, idle time skipped."""
        clock = WorkClock()
        engine = Engine(self, clock, token_budget, max_num_seqs)
        columns = (requests.arrival_s, requests.input_tokens, requests.output_tokens)
        served = [Served(float(at), int(given), int(made)) for at, given, made in zip(*columns, strict=True)]
        began_wall, began_cpu = time.perf_counter(), time.thread_time()
        engine.serve(served)
        cpu_s, wall_s, clock_s = time.thread_time() - began_cpu, time.perf_counter() - began_wall, clock.now()
        arrival, first, finish = (
            np.array([getattr(each, name) for each in served])
            for name in ("arrival_s", "first_token_s", "finish_s")
        )
        found = latencies(arrival, first, finish, requests.output_tokens.astype(float))
        preempted = sum(each.num_preemptions for each in served)
        return Outcome(found, engine.num_steps, clock_s, wall_s, cpu_s / clock_s, preempted)


class _Layout:
    """A model that lays out its inputs and computes nothing."""

    def __init__(self, served: ServedModel) -> None:
        self.num_pages, self._prepare = served.num_pages, served.llama.prepare

    def step(self, decoding: Sequence[Chunk], prefilling: Sequence[Chunk]) -> None:
        """Lay out the inputs."""
        self._prepare(decoding, prefilling)


Build = Callable[[ModelSpec, str, int], ServedModel]
