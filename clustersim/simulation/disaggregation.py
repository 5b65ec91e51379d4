"""Prefill/decode disaggregation: one deployment prefills prompts, another decodes them; KV goes over the network.

    at the end:   prefill -> the decoding replica gives it blocks -> all KV is sent -> it joins the batch there
    layer by layer: blocks at the decoding replica -> prefill; each chunk's KV is sent as its layers are computed

The first is what vLLM's NIXL connector does, where the decoding replica pulls KV once a prompt is done; the second is
Mooncake's and SGLang's way, where it is asked for room before and the prefilling replica pushes. KV stays on the
prefilling replica until all of it has arrived. Tokens that a preempted prompt computes anew are not sent again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from clustersim.network.flow import Flow, layer_wise
from clustersim.network.place import Place
from clustersim.serving.replica import Replica
from clustersim.simulation.removal import abandon, take_off, write_off

if TYPE_CHECKING:
    from clustersim.simulation.front import Front
    from clustersim.simulation.world import World


class Transit:
    """One request between its prefilling and its decoding replica."""

    __slots__ = ("flows", "left", "prefilled", "row", "sent", "source", "target")

    def __init__(self) -> None:
        self.source: Replica | None = None
        self.target: Replica | None = None
        self.left: int | None = None
        """Output tokens to make when its prompt is prefilled, where it made some before."""
        self.flows: set[Flow] = set()
        self.sent = 0
        """Tokens whose KV has been sent, or is being."""
        self.prefilled = False
        self.row = -1


class Handover:
    """All requests between two deployments."""

    def __init__(self, world: World, prefill: Front, decode: Front) -> None:
        settings = decode.plan.deployment.kv_transfer
        self.world = world
        self.prefill = prefill
        self.decode = decode
        self.layer_wise = settings.when == "layer_by_layer"
        self.num_layers = decode.plan.deployment.model.num_layers
        self.bytes_per_token = decode.plan.kv_bytes_per_token
        self.transits: dict[int, Transit] = {}
        self._stuck: list[tuple[int, Transit]] = []
        """Requests whose next replica none is up for."""
        for replica in decode.replicas:
            replica.on_room = self._room

    def begin(self, request: int, now: float, left: int | None = None) -> None:
        """Route a request: to a prefilling replica, or first to a decoding one for room."""
        transit = self.transits[request] = Transit()
        transit.left = left
        output = (
            left or self.world.records.thinking_tokens[request] + self.world.records.answer_tokens[request]
        )
        if self.layer_wise and output > 1:
            self._to_decode(request, transit, output - 1, now)
        else:
            self._to_prefill(request, transit, now)

    def _to_prefill(self, request: int, transit: Transit, now: float) -> None:
        if not self.prefill.num_up:
            self._stuck.append((request, transit))
            self.decode.parking.wake()
            return
        index = self.prefill.choose(request)
        self.prefill.load(request, index)
        self.prefill.rest(request, index)
        transit.source = source = self.prefill.replicas[index]
        if not self.layer_wise or transit.target is None:
            self.world.records.replica[request] = source.index
            self.prefill.queue(request, index, now, transit.left)
        else:
            self.prefill.queue(request, index, now, transit.left, late=True)

    def _to_decode(self, request: int, transit: Transit, left: int, now: float) -> None:
        if not self.decode.num_up:
            self._stuck.append((request, transit))
            self.decode.parking.wake()
            return
        index = self.decode.choose(request)
        self.decode.load(request, index)
        transit.target = target = self.decode.replicas[index]
        self.world.records.replica[request] = target.index
        target.submit_late(request, now, left, remote=True)

    def resume(self, now: float) -> None:
        """A replica came up: go on with what waited for one."""
        stuck, self._stuck = self._stuck, []
        for request, transit in stuck:
            if self.transits.get(request) is not transit:
                continue  # cancelled, or lost with its other replica
            if transit.prefilled:
                assert transit.source is not None
                self._to_decode(request, transit, transit.source.left[request], now)
            else:
                self._to_prefill(request, transit, now)

    def stuck(self, front: Front) -> list[int]:
        """Return the requests that wait for a replica of one of the two deployments to come up."""
        here = [
            (request, transit) for request, transit in self._stuck if self.transits.get(request) is transit
        ]
        return [request for request, transit in here if transit.prefilled == (front is self.decode)]

    # ---- what replicas tell ----------------------------------------------------------------------------------

    def chunks(self, request: int, chunk: int, replica: Replica, start: float, duration: float) -> None:
        """A step begins that prefills `chunk` tokens of a request."""
        transit = self.transits.get(request)
        if not self.layer_wise or transit is None or transit.target is None:
            return
        done = replica.computed[request]
        if done - chunk > transit.sent:  # what its prefix had in cache
            self._send(request, transit, done - chunk - transit.sent, None, start)
        if done > transit.sent:
            self._send(request, transit, done - transit.sent, (start, duration), start)

    def prefilled(self, request: int, now: float) -> None:
        """The prompt of a request is in cache, and its first token made."""
        transit = self.transits.get(request)
        if transit is None:
            return  # taken back at this very time: it will be abandoned
        source = transit.source
        assert source is not None
        self.prefill.unload(request, source)
        transit.prefilled = True
        if transit.target is None:
            self._to_decode(request, transit, source.left[request], now)
        elif not transit.flows:
            self._arrived(request, transit, now)

    def finished(self, request: int) -> None:
        """A request had only one token to make, and has it."""
        transit = self.transits.pop(request)
        assert transit.source is not None
        self.prefill.unload(request, transit.source)

    def _room(self, request: int, now: float) -> None:
        """A decoding replica has blocks for the KV of a request."""
        transit = self.transits.get(request)
        if transit is None:
            return
        if transit.source is None:
            self._to_prefill(request, transit, now)
        else:
            assert transit.target is not None
            self._send(request, transit, transit.target.loading[request], None, now)

    # ---- what the network does -------------------------------------------------------------------------------

    def _send(
        self, request: int, transit: Transit, tokens: int, computed: tuple[float, float] | None, now: float
    ) -> None:
        assert transit.source is not None
        assert transit.target is not None
        size = tokens * self.bytes_per_token
        transit.sent += tokens
        transfers = self.world.transfers
        if transit.row < 0:
            transit.row = transfers.add()
            transfers.request[transit.row] = request
            transfers.source[transit.row] = transit.source.index
            transfers.target[transit.row] = transit.target.index
            transfers.start_s[transit.row] = now
            transfers.bytes[transit.row] = 0.0
        transfers.bytes[transit.row] += size
        release = None if computed is None else layer_wise(size, self.num_layers, *computed)
        route = self.world.network.path(
            self._rank(self.prefill, transit.source, request),
            self._rank(self.decode, transit.target, request),
        )
        flow: Flow | None = None

        def done(at: float) -> None:
            assert flow is not None
            transit.flows.discard(flow)
            if transit.prefilled and not transit.flows:
                self._arrived(request, transit, at)

        flow = self.world.flows.start(route, size, done, release=release)
        transit.flows.add(flow)

    def _rank(self, front: Front, replica: Replica, request: int) -> Place:
        """Return the accelerators that have a request's KV: those of one data-parallel rank, taken in turn."""
        ranks = front.plan.deployment.parallelism.attention_dp
        return self.world.places[replica.index].part(request % ranks, ranks)

    def _arrived(self, request: int, transit: Transit, now: float) -> None:
        assert transit.source is not None
        assert transit.target is not None
        del self.transits[request]
        self.world.transfers.end_s[transit.row] = now
        transit.target.join(request, now)
        transit.source.release(request, now)

    # ---- what goes wrong -------------------------------------------------------------------------------------

    def cancel(self, request: int, now: float) -> bool:
        """Take a request off both replicas; False if it is not between them any more."""
        transit = self.transits.pop(request, None)
        if transit is None:
            return False
        for flow in transit.flows:
            self.world.flows.cancel(flow)
        source, target = transit.source, transit.target
        if source is not None and not transit.prefilled:
            self.prefill.unload(request, source)
        if target is not None:
            self.decode.unload(request, target)
        # Whoever has made tokens writes them down.
        if transit.prefilled and target is not None:
            assert source is not None
            target.cancel(request, now)
            source.abandon(request, now)
            return True
        if target is not None:
            target.abandon(request, now)
        if source is not None:
            take_off(self.prefill, request, source, now)
        else:
            write_off(self.decode, request, now, transit.left)
        return True

    def forget(self, request: int, dead: Replica, now: float) -> int | None:
        """A replica died with a request: take it off the other one; None if it was not between them.

        Else return the output tokens that it has made so far.
        """
        transit = self.transits.pop(request, None)
        if transit is None:
            return None
        records = self.world.records
        output = records.thinking_tokens[request] + records.answer_tokens[request]
        for flow in transit.flows:
            self.world.flows.cancel(flow)
        source, target = transit.source, transit.target
        if source is not None and not transit.prefilled:
            self.prefill.unload(request, source)
        if target is not None:
            self.decode.unload(request, target)
        for front, replica in ((self.prefill, source), (self.decode, target)):
            if replica is not None and replica is not dead:
                abandon(front, request, replica, now)
        return output - (transit.left or output) + transit.prefilled


def connect(world: World, fronts: list[Front]) -> None:
    """Join the deployments that decode to those that prefill for them."""
    by_name = {front.plan.deployment.name: front for front in fronts}
    for decode in fronts:
        name = decode.plan.deployment.prefill_by
        if name is not None:
            decode.handover = Handover(world, by_name[name], decode)
            # One that lost its replica is prefilled again with all that it made.
            decode.longest = min(decode.longest, by_name[name].longest)
    prefills = {
        front.handover.prefill.plan.index: front.handover.prefill for front in fronts if front.handover
    }

    def of(request: int) -> Handover:
        handover = fronts[world.records.deployment[request]].handover
        assert handover is not None
        return handover

    def prefilled(request: int, now: float) -> None:
        of(request).prefilled(request, now)

    def chunks(replica: Replica, start: float, duration: float) -> None:
        for request, chunk in replica.chunks:
            of(request).chunks(request, chunk, replica, start, duration)

    def finished(front: Front, request: int, now: float) -> None:
        of(request).finished(request)
        front.world.served(request, now)

    for front in prefills.values():
        for replica in front.replicas:
            replica.on_prefilled = prefilled
            replica.on_finish = partial(finished, front)
            replica.on_chunks = chunks
