"""Which requests of a replica rest on which shared prefixes: forks of one prompt, and what goes on from an answer.

A request names the prefix it rests on before it is submitted. The first to be admitted computes it, and publishes
its blocks as soon as the step that computes them is planned, as vLLM's prefix cache does; others share them. One
that comes while another still computes the prefix waits for it. A request that is kept leaves its own KV as a prefix
when it finishes, for others to go on from.
"""

from __future__ import annotations

from collections.abc import Callable

from clustersim.serving.kv_cache import KvCache, Prefix


class Sharing:
    """The shared prefixes of one replica.

    wants: request -> the prefix it rests on. keeps: request -> the prefix that it leaves when it finishes.
    staged: request -> (start, end), tokens of its prefix that slower tiers have brought: they take blocks when it is
    admitted, and are of use where the cache then has what lies before them.
    """

    __slots__ = ("_missing", "_rests", "keeps", "kv", "on_staged", "staged", "wants")

    def __init__(self, kv: KvCache) -> None:
        self.kv = kv
        self.wants: dict[int, Prefix] = {}
        self.keeps: dict[int, Prefix] = {}
        self.staged: dict[int, tuple[int, int]] = {}
        self.on_staged: Callable[[int, int], None] | None = None
        """Told when a request with staged tokens is admitted: (request, those of use)."""
        self._rests: dict[int, Prefix] = {}
        """Request in the batch -> the deepest resident prefix that it rests on."""
        self._missing: dict[int, list[Prefix]] = {}
        """Request in the batch -> prefixes between that and the one it wants, the next one last."""

    def cached(self, request: int) -> int:
        """Return the tokens that a waiting request would find in the cache."""
        if request not in self.wants:
            return 0
        return self._with_staged(request, held(self.wants[request]))

    def _with_staged(self, request: int, tokens: int) -> int:
        start, end = self.staged.get(request, (0, 0))
        return max(tokens, end) if tokens >= start else tokens

    def admit(self, request: int, tokens: int) -> int | None:
        """Give a request what is cached for it and room for `tokens` more; return the cached tokens, None for no room.

        None also while another request of the batch computes what this one rests on.
        """
        kv = self.kv
        wanted = self.wants.get(request)
        if wanted is None:
            return 0 if kv.allocate(0, tokens) else None
        missing = []
        rests: Prefix | None = wanted
        while rests is not None and not rests.resident:
            missing.append(rests)
            rests = rests.parent
        known = 0
        if rests is not None:
            known = rests.held
            if known < rests.tokens:
                missing.append(rests)
        if missing and missing[-1].builder is not None:
            return None
        start = self._with_staged(request, known)
        need = kv.to_wake(rests) + kv.blocks(start + tokens) - kv.blocks(known)
        if kv.used + kv.reserved + need > kv.num_blocks:
            return None
        if self.staged.pop(request, None) is not None and self.on_staged is not None:
            self.on_staged(request, start - known)
        kv.attach(rests)
        kv.allocate(known, start + tokens)
        if rests is not None:
            self._rests[request] = rests
        if missing:
            self._missing[request] = missing
            missing[-1].builder = request
            self.computed(request, start + tokens)
        return start

    def computed(self, request: int, tokens: int) -> None:
        """The first `tokens` tokens of a request will be in cache after this step: publish what others may share."""
        missing = self._missing.get(request)
        if missing is None:
            return
        while missing and missing[-1].builder == request:
            prefix = missing[-1]
            done = prefix.cut(tokens)
            begin = prefix.held if prefix.resident else prefix.start
            if done > begin or done == prefix.tokens:
                self._rests[request] = prefix
                self.kv.publish(prefix, done, 1)
            if done < prefix.tokens:
                return
            missing.pop()
            prefix.builder = None
            if missing and not missing[-1].resident and missing[-1].builder is None:
                missing[-1].builder = request
        del self._missing[request]

    def release(self, request: int, tokens: int) -> None:
        """Free what a sequence of `tokens` tokens holds, and let another compute the prefix that it was computing."""
        rests = self._rests.pop(request, None)
        self.kv.free(tokens, rests.held if rests else 0)
        missing = self._missing.pop(request, None)
        if missing and missing[-1].builder == request:
            missing[-1].builder = None
        self.kv.detach(rests)

    def finish(self, request: int, tokens: int) -> None:
        """Free what a finished sequence of `tokens` tokens holds, but for what it leaves as a prefix."""
        rests = self._rests.pop(request, None)
        kept = self.keeps.pop(request, None)
        if kept is not None:
            kept.tokens = tokens - tokens % self.kv.block_size
            self.kv.publish(kept, kept.tokens, 0)
        self.kv.free(tokens, rests.held if rests else 0)
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
        self.staged.pop(request, None)

    def clear(self) -> None:
        """Lose all KV, as when the replica dies."""
        for missing in self._missing.values():
            for prefix in missing:
                prefix.builder = None
        self.kv.clear(self._rests.values())
        for table in (self.wants, self.keeps, self.staged, self._rests, self._missing):
            table.clear()


def resident(prefix: Prefix | None) -> Prefix | None:
    """Return the deepest resident prefix up the chain from `prefix`."""
    while prefix is not None and not prefix.resident:
        prefix = prefix.parent
    return prefix


def held(prefix: Prefix | None) -> int:
    """Return the tokens of a prefix that are in the cache."""
    found = resident(prefix)
    return found.held if found else 0
