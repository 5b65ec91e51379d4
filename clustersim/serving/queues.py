"""Orders in which requests wait: by a key of their own, or tenant by tenant. See contracts.Queue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from heapq import heappop, heappush

#: What a request is ordered by; it never changes while the request waits.
Key = tuple[float, ...]


class Ordered:
    """Requests by key, the least first; of equal keys the lowest request number. O(log waiting) a request.

    A preempted request goes back to the place that its key gives it.
    """

    __slots__ = ("_heap", "_here", "_key")

    def __init__(self, key: Callable[[int], Key]) -> None:
        self._key = key
        self._heap: list[tuple[Key, int]] = []
        self._here: set[int] = set()

    def append(self, request: int, /) -> None:
        """See Queue."""
        self._here.add(request)
        heappush(self._heap, (self._key(request), request))

    appendleft = append

    def popleft(self) -> int:
        """See Queue."""
        request = self[0]
        heappop(self._heap)
        self._here.remove(request)
        return request

    def remove(self, request: int, /) -> None:
        """See Queue."""
        if request not in self._here:
            raise ValueError(f"request {request} is not in the queue")
        self._here.remove(request)
        if self._heap[0][1] == request:
            heappop(self._heap)

    def clear(self) -> None:
        """See Queue."""
        self._here.clear()
        self._heap.clear()

    def __getitem__(self, index: int, /) -> int:
        if index or not self._here:
            raise IndexError(index)
        heap = self._heap
        while heap[0][1] not in self._here:
            heappop(heap)  # taken from the middle
        return heap[0][1]

    def __len__(self) -> int:
        return len(self._here)

    def __contains__(self, request: object) -> bool:
        return request in self._here

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._here, key=lambda request: (self._key(request), request)))


class ByTenant:
    """A line a tenant, first come first served; the tenant that was given least so far is next.

    The counters of Sheng et al. (OSDI 2024, algorithm 2): admitting a request adds its cost to its tenant's counter. A
    tenant that had nothing waiting is lifted to the least counter of those that have, or, where nobody waits, to that
    of the tenant whose line emptied last: idle time earns nothing. `charged(request)` says if it costs anything now.
    """

    __slots__ = ("_charged", "_cost", "_count", "_last", "_lines", "_tenant", "counters")

    def __init__(
        self,
        tenant: Callable[[int], Hashable],
        cost: Callable[[int], float],
        charged: Callable[[int], bool] = lambda _request: True,
    ) -> None:
        self._tenant = tenant
        self._cost = cost
        self._charged = charged
        self._lines: dict[Hashable, deque[int]] = {}
        """Those with somebody in them."""
        self._last: Hashable = None
        self._count = 0
        self.counters: dict[Hashable, float] = {}

    def append(self, request: int, /) -> None:
        """See Queue."""
        tenant = self._tenant(request)
        if tenant not in self._lines:
            counters = self.counters
            others = [counters[each] for each in self._lines] or [counters.get(self._last, 0.0)]
            counters[tenant] = max(counters.get(tenant, 0.0), min(others))
        self._line(tenant).append(request)

    def appendleft(self, request: int, /) -> None:
        """See Queue."""
        tenant = self._tenant(request)
        self.counters.setdefault(tenant, 0.0)
        self._line(tenant).appendleft(request)

    def _line(self, tenant: Hashable) -> deque[int]:
        self._count += 1
        return self._lines.setdefault(tenant, deque())

    def popleft(self) -> int:
        """See Queue."""
        request = self[0]
        self.remove(request)
        if self._charged(request):
            self.counters[self._tenant(request)] += self._cost(request)
        return request

    def remove(self, request: int, /) -> None:
        """See Queue."""
        tenant = self._tenant(request)
        line = self._lines.get(tenant, deque())
        line.remove(request)
        self._count -= 1
        if not line:
            del self._lines[tenant]
            self._last = tenant

    def clear(self) -> None:
        """See Queue."""
        self._lines.clear()
        self._count = 0

    def _order(self, tenant: Hashable) -> tuple[float, str]:
        return self.counters[tenant], str(tenant)

    def __getitem__(self, index: int, /) -> int:
        if index or not self._lines:
            raise IndexError(index)
        return self._lines[min(self._lines, key=self._order)][0]

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return (request for tenant in sorted(self._lines, key=self._order) for request in self._lines[tenant])
