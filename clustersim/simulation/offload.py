"""KV offload: what leaves the caches of a deployment's replicas goes to slower tiers, and comes back when asked for.

    evicted from the accelerators -> first tier -> what that evicts -> the next one -> ... -> gone
    a request is routed -> the longest prefix that its replica and the tiers have -> the tiers' part is sent to the
    replica -> the request joins its queue

Host memory and drives are each replica's own, and lost with it; the remote store is shared by all replicas of one model
and KV format in the cluster. Bytes go over the interconnect in either direction. Requests wait for what they load, and
nobody for what is written: a tier is taken to have it at once. Each request loads for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clustersim.network.channel import expected_s
from clustersim.network.flow import Flow
from clustersim.serving.kv_cache import Prefix
from clustersim.serving.replica import Replica
from clustersim.serving.tiers import Piece, Tier

if TYPE_CHECKING:
    from clustersim.network.channel import Route
    from clustersim.network.place import Place
    from clustersim.simulation.front import Front
    from clustersim.simulation.world import World


class Loading:
    """A request whose KV is on its way to its replica."""

    __slots__ = ("end", "flows", "index", "left", "request", "rows", "start")

    def __init__(self, request: int, index: int, left: int | None, start: int) -> None:
        self.request = request
        self.index = index
        self.left = left
        self.start = self.end = start
        """Tokens from and up to which it loads."""
        self.flows: set[Flow] = set()
        self.rows: list[int] = []
        """Rows of LoadRecords, in the order of the tokens."""


class Shelf:
    """The tiers below the cache of one replica; see kv_cache.Below."""

    def __init__(self, offload: Offload, index: int, tiers: list[Tier]) -> None:
        self.offload = offload
        self.index = index
        self.tiers = tiers
        self.to_write: list[tuple[str, str, int]] = []
        """(from, to, tokens) of what this instant writes."""

    def take(self, prefix: Prefix, start: int, end: int) -> None:
        """See kv_cache.Below."""
        self._put(0, [Piece(prefix.key, start, end)], "accelerators")

    def computed(self, prefix: Prefix, start: int, end: int) -> None:
        """See kv_cache.Below."""
        for level in self.offload.written_through:
            self._put(level, [Piece(prefix.key, start, end)], "accelerators")

    def drop(self, prefix: Prefix) -> None:
        """See kv_cache.Below."""
        for tier in self.tiers:
            tier.drop(prefix.key)

    def clear(self) -> None:
        """The replica is gone, and with it all but the remote store."""
        self.to_write.clear()
        for tier, settings in zip(self.tiers, self.offload.settings, strict=True):
            if settings.where != "remote_store":
                tier.clear()

    def _put(self, level: int, pieces: list[Piece], source: str) -> None:
        while pieces and level < len(self.tiers):
            tier, where = self.tiers[level], self.offload.settings[level].where
            new = sum(map(tier.put, pieces))
            if new:
                self._write(source, where, new)
            pieces, source = tier.overflow(), where
            level += 1

    def _write(self, source: str, target: str, tokens: int) -> None:
        if not self.to_write:
            self.offload.world.after(0.0, lambda _event: self._send())
        self.to_write.append((source, target, tokens))

    def _send(self) -> None:
        """Write what this instant has to write, all between two places at once."""
        sums: dict[tuple[str, str], int] = {}
        for source, target, tokens in self.to_write:
            sums[source, target] = sums.get((source, target), 0) + tokens
        self.to_write.clear()
        for (source, target), tokens in sums.items():
            self.offload.write(self.index, source, target, tokens)


class Offload:
    """The tiers of one deployment, and the requests that load from them."""

    def __init__(self, world: World, front: Front) -> None:
        deployment = front.plan.deployment
        self.world = world
        self.front = front
        self.settings = deployment.kv_tiers
        self.written_through = [n for n, each in enumerate(self.settings) if each.store == "when_computed"]
        self.bytes_per_token = front.plan.kv_bytes_per_token
        self.block_size = front.plan.memory.engine.block_size
        self.loading: dict[int, Loading] = {}
        self.staged: dict[int, Loading] = {}
        """Requests that have loaded and were not admitted yet."""
        self.stored_bytes: dict[tuple[str, str], float] = {}
        """(from, to) -> what was written, or is being."""
        self.shelves = [self._shelf(index) for index in range(len(front.replicas))]

    def _shelf(self, index: int) -> Shelf:
        tiers = []
        deployment, shared = self.front.plan.deployment, self.world.kv_stores
        for each in self.settings:
            room = int(each.capacity_bytes / self.bytes_per_token) // self.block_size * self.block_size
            tier = Tier(room)
            if each.where == "remote_store":
                key = (deployment.on, deployment.model.name, deployment.formats.kv_cache)
                tier = shared.setdefault(key, tier)
            tiers.append(tier)
        shelf = Shelf(self, index, tiers)
        replica = self.front.replicas[index]
        replica.kv.below = shelf
        replica.sharing.on_staged = self._admitted
        return shelf

    # ---- loads -----------------------------------------------------------------------------------------------

    def load(self, request: int, index: int, now: float, left: int | None) -> bool:
        """Send for what the tiers have of a routed request's prefix, then queue it; False if that is nothing."""
        replica = self.front.replicas[index]
        wanted = replica.sharing.wants.get(request)
        if wanted is None:
            return False
        start, found = self._find(wanted, self.shelves[index].tiers)
        place = self._rank(replica, request)
        loading = Loading(request, index, left, start)
        for level, tokens in found:
            if self._too_slow(level, loading.end, tokens, request, place):
                break
            loading.rows.append(self._note(request, level, tokens, now))
            loading.end += tokens
        if not loading.rows:
            return False
        self.loading[request] = loading
        for row in loading.rows:
            self._fetch(loading, row, place)
        return True

    def _find(self, wanted: Prefix, tiers: list[Tier]) -> tuple[int, list[tuple[int, int]]]:
        """Return the tokens of a prefix in the cache, and (tier, tokens) of what follows them, piece by piece."""
        chain = []
        at: Prefix | None = wanted
        while at is not None and not at.resident:
            chain.append(at)
            at = at.parent
        if at is not None:
            chain.append(at)
        start = tokens = at.held if at is not None else 0
        found: list[tuple[int, int]] = []
        used = []
        for prefix in reversed(chain):
            while tokens < prefix.tokens:
                level, end = self._longest(tiers, prefix, tokens)
                if end == tokens:
                    break
                found.append((level, end - tokens))
                used.append((tiers[level], prefix.key))
                tokens = end
            if tokens < prefix.tokens:
                break
        for tier, key in reversed(used):
            tier.touch(key)
        return start, found

    def _longest(self, tiers: list[Tier], prefix: Prefix, start: int) -> tuple[int, int]:
        """Return the first tier that has a prefix from token `start` on, and up to where in whole blocks."""
        for level, tier in enumerate(tiers):
            end = min(tier.end(prefix.key, start), prefix.tokens)
            end -= end % self.block_size
            if end > start:
                return level, end
        return -1, start

    def _too_slow(self, level: int, start: int, tokens: int, request: int, place: Place) -> bool:
        """Return whether it takes longer to load tokens than to compute them.

        Loading is timed as if the transfers that are under way stayed and shared evenly; computing by what the prefill
        of the rest of the input takes longer, in one step of its own.
        """
        if self.settings[level].load == "always":
            return False
        size = tokens * self.bytes_per_token
        seconds = expected_s(self._route(level, place), size)
        return seconds >= self._prefill_s(start, request) - self._prefill_s(start + tokens, request)

    def _prefill_s(self, start: int, request: int) -> float:
        """Return the seconds of a step that prefills a request's input from token `start` on."""
        length = self.front.records.input_tokens[request]
        new = length - start
        pairs = new * start + new * (new + 1) // 2
        return self.front.plan.step_time.mixed(0, 0, new, pairs, length, 1, new)

    def _note(self, request: int, level: int, tokens: int, now: float) -> int:
        rows = self.world.kv_loads
        row = rows.add()
        rows.request[row] = request
        rows.deployment[row] = self.front.plan.index
        rows.tier[row] = level
        rows.tokens[row] = tokens
        rows.bytes[row] = tokens * self.bytes_per_token
        rows.start_s[row] = now
        return row

    def _fetch(self, loading: Loading, row: int, place: Place) -> None:
        rows = self.world.kv_loads

        def done(at: float) -> None:
            rows.end_s[row] = at
            loading.flows.discard(flow)
            if not loading.flows:
                self._loaded(loading, at)

        def failed(at: float) -> None:
            loading.flows.discard(flow)
            self._give_up(loading, at)

        route = self._route(rows.tier[row], place)
        flow = self.world.flows.start(route, rows.bytes[row], done, failed=failed)
        loading.flows.add(flow)

    def _loaded(self, loading: Loading, now: float) -> None:
        """All is here: queue the request."""
        del self.loading[loading.request]
        self.staged[loading.request] = loading
        replica = self.front.replicas[loading.index]
        replica.sharing.staged[loading.request] = loading.start, loading.end
        replica.submit_late(loading.request, now, loading.left)

    def _give_up(self, loading: Loading, now: float) -> None:
        """A channel has failed: queue the request without what it was to load."""
        if self.loading.pop(loading.request, None) is None:
            return
        for flow in loading.flows:
            self.world.flows.cancel(flow)
        self.front.replicas[loading.index].submit_late(loading.request, now, loading.left)

    def _admitted(self, request: int, used: int) -> None:
        """A request is admitted that `used` tokens, the last of those it has loaded, spare a prefill."""
        rows = self.world.kv_loads
        for row in reversed(self.staged.pop(request).rows):
            rows.used_tokens[row] = min(used, rows.tokens[row])
            used -= rows.used_tokens[row]

    def cancel(self, request: int) -> Loading | None:
        """Stop loading for a request; None if it does not."""
        loading = self.loading.pop(request, None)
        if loading is not None:
            for flow in loading.flows:
                self.world.flows.cancel(flow)
            self.front.replicas[loading.index].sharing.forget(request)
        return loading

    def lost(self, index: int) -> list[tuple[int, int]]:
        """A replica died: return (request, output tokens it had made) of those that were loading for it."""
        records = self.front.records
        here = [request for request, each in self.loading.items() if each.index == index]
        found = []
        for request in here:
            loading = self.cancel(request)
            assert loading is not None
            output = records.thinking_tokens[request] + records.answer_tokens[request]
            found.append((request, 0 if loading.left is None else output - loading.left))
        return found

    # ---- writes, and where all goes --------------------------------------------------------------------------

    def write(self, index: int, source: str, target: str, tokens: int) -> None:
        """Send tokens that a tier takes; nobody waits for them."""
        place = self.world.places.get(self.front.first_replica + index)
        if place is None:
            return  # it is gone
        size = tokens * self.bytes_per_token
        self.stored_bytes[source, target] = self.stored_bytes.get((source, target), 0.0) + size
        route = self.world.network.spill(place, source, target)
        self.world.flows.start(route, size, _nothing, failed=_nothing)

    def _route(self, level: int, place: Place) -> Route:
        return self.world.network.spill(place, self.settings[level].where, "accelerators")

    def _rank(self, replica: Replica, request: int) -> Place:
        """Return the accelerators that get a request's KV: those of one data-parallel rank, taken in turn."""
        ranks = self.front.plan.deployment.parallelism.attention_dp
        return self.world.places[replica.index].part(request % ranks, ranks)


def _nothing(_now: float) -> None:
    pass
