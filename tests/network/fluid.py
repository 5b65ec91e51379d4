"""Other ways to share a network, to check the real one against: a naive filling, and small steps of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np
from simpy import Environment

from clustersim.network.channel import Channel, Route
from clustersim.network.flow import Flow, Release
from clustersim.network.flows import Flows


@dataclass(frozen=True)
class Transfer:
    """A flow to be: when, over which channels with how many streams, how much, how fast at most."""

    at: float
    size: float
    hops: dict[int, float]
    streams: float = 1.0
    cap: float = inf
    held: float = 0.0
    cap_until: tuple[float, float] = (inf, -inf)
    """Another cap, and how long after its start it holds."""
    cancelled: float = inf
    aborts: bool = False


@dataclass(frozen=True)
class Case:
    """A network, its transfers, and times at which channels get other capacities."""

    capacities: list[float]
    transfers: list[Transfer]
    changes: list[tuple[float, int, float]] = field(default_factory=list)
    latency: float = 0.0


def levels(
    hops: Sequence[dict[int, float]], caps: Sequence[float], capacities: Sequence[float]
) -> np.ndarray:
    """Raise the streams of all flows together, and freeze those that meet a cap or a full channel."""
    count = len(hops)
    use = np.zeros((len(capacities), count))
    for index, passed in enumerate(hops):
        for channel, streams in passed.items():
            use[channel, index] = streams
    level, open_ = np.zeros(count), np.ones(count, dtype=bool)
    capacity, cap = np.asarray(capacities, dtype=float), np.asarray(caps, dtype=float)
    while open_.any():
        active = use @ open_
        with np.errstate(divide="ignore", invalid="ignore"):
            bounds = np.where(active > 0, (capacity - use @ (level * ~open_)) / active, inf)
        bound = bounds.min(initial=inf)
        first = cap[open_].min()
        if first <= bound * (1 + 1e-12):
            chosen = open_ & (cap <= first)
            level[chosen] = first
        else:
            chosen = open_ & (use[bounds <= bound * (1 + 1e-12)] > 0).any(axis=0)
            level[chosen] = bound
        open_ &= ~chosen
    return level


def real(case: Case, order: Sequence[int] | None = None) -> tuple[list[float], Flows, list[Flow | None]]:
    """Return when each transfer is done (inf: never), and what remains, of a case played with Flows."""
    env = Environment()
    flows = Flows(env)
    channels = [flows.channel(str(index), capacity) for index, capacity in enumerate(case.capacities)]
    ends = [inf] * len(case.transfers)
    made: list[Flow | None] = [None] * len(case.transfers)

    def begin(index: int):
        transfer = case.transfers[index]
        yield env.timeout(transfer.at)
        route = Route(
            tuple((channels[channel], streams) for channel, streams in transfer.hops.items()),
            transfer.streams, case.latency,
        )  # fmt: skip
        cap, until = transfer.cap_until
        flow = flows.start(
            route, transfer.size, lambda now: ends.__setitem__(index, now), cap_bytes_per_s=transfer.cap,
            release=Release(env.now + transfer.held, cap, env.now + until) if transfer.held or until > 0 else None,
            failed=(lambda now: None) if transfer.aborts else None,
        )  # fmt: skip
        made[index] = flow
        if transfer.cancelled < inf:
            yield env.timeout(transfer.cancelled)
            flows.cancel(flow)

    def change(at: float, channel: Channel, capacity: float):
        yield env.timeout(at)
        flows.set_capacity(channel, capacity)
        flows.check()

    for index in order if order is not None else range(len(case.transfers)):
        env.process(begin(index))
    for at, channel, capacity in case.changes:
        env.process(change(at, channels[channel], capacity))
    env.run()
    flows.check()
    return ends, flows, made


def small_steps(case: Case, step: float, until: float) -> list[float]:
    """Return when each transfer is done, with rates that are found anew each step and kept for it."""
    ends = [inf] * len(case.transfers)
    left = np.array([transfer.size for transfer in case.transfers])
    over = np.zeros(len(left), dtype=bool)
    for tick in range(round(until / step)):
        now = tick * step + step / 1000
        capacities = list(case.capacities)
        for at, channel, capacity in sorted(case.changes):
            if at <= now:
                capacities[channel] = capacity
        going = []
        for index, transfer in enumerate(case.transfers):
            if over[index] or now < transfer.at + transfer.held:
                continue
            if now >= transfer.at + transfer.cancelled or (
                transfer.aborts and any(capacities[channel] == 0 for channel in transfer.hops)
            ):
                over[index] = True
                continue
            going.append(index)
        if not going:
            continue
        chosen = [case.transfers[index] for index in going]
        caps = [
            min(each.cap, each.cap_until[0] if now < each.at + each.cap_until[1] else inf) / each.streams
            for each in chosen
        ]
        found = levels([each.hops for each in chosen], caps, capacities)
        for index, level, transfer in zip(going, found, chosen, strict=True):
            rate = level * transfer.streams
            if rate * step >= left[index] * (1 - 1e-9):
                ends[index] = tick * step + (left[index] / rate if rate else 0.0)
                over[index] = True
            left[index] -= rate * step
    return ends


def draw(rng: np.random.Generator, tidy: bool = False) -> Case:
    """Return a small network in which much happens; with `tidy` its times are multiples of 1/64."""
    num_channels = int(rng.integers(1, 7))
    capacities = rng.choice([1.0, 2.0, 3.0, 5.5, 8.0], num_channels).tolist()

    def time(mean: float) -> float:
        drawn = float(rng.exponential(mean))
        return round(drawn * 64) / 64 if tidy else drawn

    transfers = []
    for _ in range(int(rng.integers(1, 13))):
        passed = rng.choice(num_channels, int(rng.integers(1, min(3, num_channels) + 1)), replace=False)
        streams = float(rng.choice([1, 1, 2, 4]))
        hops = {int(channel): streams if rng.random() < 0.8 else streams / 2 for channel in passed}
        until = time(1.0) if rng.random() < 0.2 else 0.0
        transfers.append(
            Transfer(
                at=0.0 if rng.random() < 0.4 else time(2.0),
                size=float(rng.exponential(3.0)) + 0.01,
                hops=hops,
                streams=streams,
                cap=float(rng.choice([0.5, 2.0])) if rng.random() < 0.25 else inf,
                held=time(0.5) if rng.random() < 0.2 else 0.0,
                cap_until=(float(rng.choice([0.3, 1.0])), until) if until > 0 else (inf, -inf),
                cancelled=time(2.0) if rng.random() < 0.15 else inf,
                aborts=bool(rng.random() < 0.3),
            )
        )
    changes = []
    for channel in rng.permutation(num_channels)[: rng.integers(0, 3)].tolist():
        at = time(2.0) + 1 / 64
        changes.append((at, channel, float(rng.choice([0.0, 0.0, 0.5, 4.0]))))
        changes.append((at + time(1.0) + 1 / 64, channel, capacities[channel]))
    return Case(capacities, transfers, changes)
