"""Which requests of a replica rest on which shared prefixes: forks of one prompt, and what goes on from an answer.

A request names the prefix it rests on before it is submitted. The first to be admitted computes it, and publishes
its blocks as soon as the step that computes them is planned, as vLLM's prefix cache does; others share them. One
that comes while another still computes the prefix waits for it. A request that is kept leaves its own KV as a prefix
when it finishes, for others to go on from.
"""

from __future__ import annotations

from clustersim.serving.kv_cache import KvCache, Prefix


class Sharing:
    """The shared prefixes of one replica.

    wants: request -> the prefix it rests on. keeps: request -> the prefix that it leaves when it finishes.
    """

    __slots__ = ("_rests", "keeps", "kv", "wants")

    def __init__(self, kv: KvCache) -> None:
        self.kv = kv
        self.wants: dict[int, Prefix] = {}
        self.keeps: dict[int, Prefix] = {}
        self._rests: dict[int, Prefix] = {}
        """Request in the batch -> the deepest resident prefix that it rests on."""

    def cached(self, request: int) -> int:
        """Return the tokens that a waiting request would find in the cache."""
        if request not in self.wants:
            return 0
        found = _resident(self.wants[request])
        return found.tokens if found else 0

    def admit(self, request: int, tokens: int) -> int | None:
        """Give a request what is cached for it and room for `tokens` more; return the cached tokens, None for no room.

        None also while another request of the batch computes what this one rests on.
        """
        kv = self.kv
        wanted = self.wants.get(request)
        if wanted is None:
            return 0 if kv.allocate(0, tokens) else None
        rests = _resident(wanted)
        missing = _next(wanted, rests)
        if missing is not None and missing.builder is not None:
            return None
        start = rests.tokens if rests else 0
        need = kv.to_wake(rests) + kv.blocks(start + tokens) - kv.blocks(start)
        if kv.used + kv.reserved + need > kv.num_blocks:
            return None
        kv.attach(rests)
        kv.allocate(start, start + tokens)
        if rests is not None:
            self._rests[request] = rests
        if missing is not None:
            missing.builder = request
            self.computed(request, start + tokens)
        return start

    def computed(self, request: int, tokens: int) -> None:
        """The first `tokens` tokens of a request will be in cache after this step: publish what others may share."""
        wanted = self.wants.get(request)
        if wanted is None:
            return
        rests = self._rests.get(request)
        while (missing := _next(wanted, rests)) is not None and missing.builder == request:
            if tokens < missing.tokens:
                return
            self.kv.publish(missing, missing.tokens, 1)
            rests = self._rests[request] = missing
            below = _next(wanted, rests)
            if below is not None and not below.resident and below.builder is None:
                below.builder = request

    def release(self, request: int, tokens: int) -> None:
        """Free what a sequence of `tokens` tokens holds, and let another compute the prefix that it was computing."""
        rests = self._rests.pop(request, None)
        self.kv.free(tokens, rests.tokens if rests else 0)
        wanted = self.wants.get(request)
        if wanted is None:
            return
        missing = _next(wanted, rests)
        if missing is not None and missing.builder == request:
            missing.builder = None
        self.kv.detach(rests)

    def finish(self, request: int, tokens: int) -> None:
        """Free what a finished sequence of `tokens` tokens holds, but for what it leaves as a prefix."""
        rests = self._rests.pop(request, None)
        kept = self.keeps.pop(request, None)
        if kept is not None:
            self.kv.publish(kept, tokens - tokens % self.kv.block_size, 0)
        self.kv.free(tokens, rests.tokens if rests else 0)
        if rests is not None:
            self.kv.detach(rests)
            del self.wants[request]

    def rests(self, request: int) -> Prefix | None:
        """Return the prefix that a request of the batch rests on."""
        return self._rests.get(request)

    def forget(self, request: int) -> None:
        """A request that is off the batch will not come back."""
        self.wants.pop(request, None)
        self.keeps.pop(request, None)


def _resident(prefix: Prefix | None) -> Prefix | None:
    """Return the deepest resident prefix up the chain from `prefix`."""
    while prefix is not None and not prefix.resident:
        prefix = prefix.parent
    return prefix


def _next(wanted: Prefix, rests: Prefix | None) -> Prefix | None:
    """Return the prefix on the way down from `rests` to `wanted` that comes next; None at its end."""
    below: Prefix | None = None
    at: Prefix | None = wanted
    while at is not rests:
        assert at is not None
        below, at = at, at.parent
    return below
