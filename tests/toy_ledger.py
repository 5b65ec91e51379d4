"""A ledger of what a simulated fleet really does, kept beside its own records: to play a draw of toy_serving with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
from toy_serving import Draw
from toy_tasks import CountingKv

from clustersim.network.flow import Flow
from clustersim.records import DRAINING, STARTING, UP, Columns
from clustersim.serving.replica import Replica
from clustersim.simulation import front, operations
from clustersim.simulation.front import Front
from clustersim.simulation.lifecycle import Lifecycle
from clustersim.simulation.world import World

#: Requests that wait for so long, while nothing happens, wait in vain: toys are over within a few seconds.
IN_VAIN_S = 60.0


@dataclass(frozen=True)
class Played:
    """A world that has ended, its records as columns, and the ledger of it."""

    world: World
    ledger: Ledger
    rows: dict[str, np.ndarray]
    tasks: dict[str, np.ndarray]
    transfers: dict[str, np.ndarray]
    loads: dict[str, np.ndarray]
    spans: dict[str, np.ndarray]
    runs: dict[str, np.ndarray]

    @property
    def output(self) -> np.ndarray:
        """Output tokens of each request."""
        return self.rows["thinking_tokens"] + self.rows["answer_tokens"]

    @property
    def replicas(self) -> list[Replica]:
        """All replicas of all deployments."""
        return [replica for front in self.world.fronts for replica in front.replicas]


class Ledger:
    """Counts tokens by request, and whatever else happens, by name; refuses what must not be."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.made: Counter[int] = Counter()
        self.prefilled: Counter[int] = Counter()
        self.happened: Counter[str] = Counter()
        self.flows: list[Flow] = []
        start = world.flows.start

        def started(*given: Any, **more: Any) -> Flow:
            flow = start(*given, **more)
            self.flows.append(flow)
            return flow

        world.flows.start = started  # type: ignore[method-assign]
        for each in world.fronts:
            self._watch_front(each)
            for replica in each.replicas:
                self._watch_replica(each, replica)
        for life in world.lifecycles:
            self._watch_life(life)

    # ---- what requests do ------------------------------------------------------------------------------------

    def _watch_front(self, front: Front) -> None:
        load, route, offload = front.load, front.route, front.offload
        routed: Counter[int] = Counter()

        def loaded(request: int, index: int) -> None:
            assert front.loads[index].up, "a request is sent to a replica that is down"
            load(request, index)

        def was_routed(request: int, now: float, left: int | None = None) -> None:
            routed[request] += 1
            if routed[request] > 1:
                self.happened["routed again"] += 1
                self.happened["goes on from what was streamed"] += left is not None
            parked = len(front.parking.left)
            route(request, now, left)
            self.happened["parked"] += len(front.parking.left) > parked

        front.load, front.route = loaded, was_routed  # type: ignore[method-assign]
        if offload is not None:
            give_up, lost = offload._give_up, offload.lost

            def gave_up(loading: Any, now: float) -> None:
                self.happened["load from a tier fails"] += 1
                give_up(loading, now)

            def were_lost(index: int) -> list[tuple[int, int]]:
                found = lost(index)
                self.happened["death while loading from a tier"] += bool(found)
                return found

            offload._give_up, offload.lost = gave_up, were_lost  # type: ignore[method-assign]

    def _is_on(self, front: Front, replica: Replica) -> bool:
        if not self.world.lifecycles:
            return True
        state = self.world.lifecycles[front.plan.index].states[replica.index - front.first_replica]
        return state in (UP, DRAINING)

    def _watch_replica(self, front: Front, replica: Replica) -> None:
        start_run, end_run, admit = replica._start_run, replica._end_run, replica.admit
        cancel, adapters = replica.cancel, replica.adapters

        def was_admitted(tokens: int) -> bool:
            assert self._is_on(front, replica), "a request is admitted by a replica that is off"
            done = admit(tokens)
            self.happened["no room in KV"] += not done
            return done

        def run_starts() -> None:
            start_run()
            kv = replica.kv
            assert kv.used >= 0
            assert kv.idle >= 0
            assert kv.used + kv.idle <= kv.num_blocks
            if replica._steps:
                assert self._is_on(front, replica), "a replica works that is off"
            for request, tokens in replica.chunks:
                self.prefilled[request] += tokens

        def run_ends() -> None:
            if not replica.stalled:
                for request in replica._offsets:
                    self.made[request] += replica._steps
            for request, _ in replica.chunks:
                if replica.computed.get(request) == replica.prefill_length(request):
                    self.made[request] += 1
            end_run()

        def was_cancelled(request: int, now: float) -> None:
            self.happened["cancelled at a replica"] += 1
            cancel(request, now)

        replica._start_run, replica._end_run = run_starts, run_ends  # type: ignore[method-assign]
        replica.admit, replica.cancel = was_admitted, was_cancelled  # type: ignore[method-assign]
        if adapters is not None:
            replica.adapters = _Adapters(adapters, self)  # type: ignore[assignment]

    # ---- what replicas do ------------------------------------------------------------------------------------

    def _watch_life(self, life: Lifecycle) -> None:
        die, reclaim, placed, set_state = life.die, life.reclaim, life.placed, life._set

        def died(index: int, now: float) -> None:
            state = life.states[index]
            self.happened["death"] += 1
            self.happened["death while weights load"] += state == STARTING
            self.happened["death while draining"] += state == DRAINING
            replica = life.front.replicas[index]
            for each in self.world.fronts:
                for transit in each.handover.transits.values() if each.handover else ():
                    if transit.flows:
                        self.happened["prefilling side dies with KV in flight"] += transit.source is replica
                        self.happened["decoding side dies with KV in flight"] += transit.target is replica
            die(index, now)
            kv = replica.kv
            assert (kv.used, kv.idle, kv.num_decoding) == (0, 0, 0), "KV of a dead replica"
            assert not life.front.loads[index].requests

        def reclaimed(now: float) -> None:
            self.happened["reclaim"] += 1
            reclaim(now)

        def was_placed(index: int, now: float) -> None:
            self.happened["renewed in place"] += life.states[index] == DRAINING
            self.happened["weights in host memory"] += life._copies(index) <= life.world.in_host_memory
            placed(index, now)

        def was_set(index: int, state: int, now: float) -> None:
            set_state(index, state, now)
            self._look()

        life.die, life.reclaim, life.placed, life._set = died, reclaimed, was_placed, was_set  # type: ignore[method-assign]

    def _look(self) -> None:
        """Every accelerator has one owner at most, and is there; who is not up takes nothing."""
        world = self.world
        held = [(place.cluster, share.node, each) for place in world.places.values()
                for share in place.shares for each in share.accelerators]  # fmt: skip
        assert len(held) == len(set(held)), "two replicas on one accelerator"
        for name, vacancies in world.vacancies.items():
            free = {(name, node, each) for node, free in enumerate(vacancies.free) for each in free}
            here = [each for each in held if each[0] == name]
            assert not free & set(here)
            assert len(here) + len(free) <= len(vacancies.free) * vacancies.per_node
        for each in world.lifecycles:
            for index, state in enumerate(each.states):
                if not (state == UP and not each.cut_off):
                    assert not each.front.loads[index].up


class _Adapters:
    """Slots for adapters, which a ledger looks at."""

    def __init__(self, slots: Any, ledger: Ledger) -> None:
        self._slots = slots
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._slots, name)

    def has_room(self, request: int) -> bool:
        """See Adapters."""
        room: bool = self._slots.has_room(request)
        self._ledger.happened["passed over"] += not room
        return room


def play(draw: Draw, mode: str = "runs") -> Played:
    """Run a draw to its last event."""
    scenario = draw.scenario
    scenario = scenario.model_copy(update={"engine": scenario.engine.model_copy(update={"mode": mode})})
    with (
        mock.patch.object(front, "KvCache", CountingKv),
        mock.patch.object(operations, "_IN_VAIN_S", IN_VAIN_S),
    ):
        world = World(scenario, scenario.seed, list(draw.plans), None)
        for each, steps in zip(world.fronts, draw.steps, strict=True):
            for replica, own in zip(each.replicas, steps, strict=True):
                replica.step_times = own
        ledger = Ledger(world)
        world.run()
    every = (world.records, world.tasks, world.transfers, world.kv_loads, world.spans)
    return Played(world, ledger, *map(_columns, every), world.runs.columns())


def _columns(records: Columns) -> dict[str, np.ndarray]:
    return {name: records.column(name) for name in (*records.FLOATS, *records.INTS)}
