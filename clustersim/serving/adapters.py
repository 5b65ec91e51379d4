"""LoRA adapters of one replica: which are in its slots, who uses them, and what loading them takes."""

from __future__ import annotations

from collections import OrderedDict

from clustersim.records import RequestRecords


class Adapters:
    """Slots for adapters on the accelerators of one replica; the least recently used idle one gives way.

    As in vLLM: a batch has at most `num_slots` different adapters, a request whose adapter finds no slot is passed
    over, and an adapter is loaded from host memory within the step that first needs it, which takes `load_s` longer.
    """

    __slots__ = ("_idle", "_loading_s", "_users", "load_s", "num_slots", "records")

    def __init__(self, records: RequestRecords, num_slots: int, load_s: float) -> None:
        self.records = records
        self.num_slots = num_slots
        self.load_s = load_s
        self._loading_s = 0.0
        self._users: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    def has_room(self, request: int) -> bool:
        """Return whether a request's adapter is in a slot, or there is one for it."""
        adapter = self.records.adapter[request]
        return adapter < 0 or adapter in self._users or len(self._users) < self.num_slots

    def use(self, request: int) -> None:
        """Count a request of the batch, loading its adapter if it is in no slot."""
        adapter = self.records.adapter[request]
        if adapter < 0:
            return
        if adapter in self._users:
            self._users[adapter] += 1
            return
        self._users[adapter] = 1
        if adapter in self._idle:
            del self._idle[adapter]
            return
        self.records.adapter_loads[request] += 1
        self._loading_s += self.load_s
        while len(self._users) + len(self._idle) > self.num_slots:
            self._idle.popitem(last=False)

    def leave(self, request: int) -> None:
        """Count it no more; its adapter stays in its slot until another needs it."""
        adapter = self.records.adapter[request]
        if adapter < 0:
            return
        self._users[adapter] -= 1
        if not self._users[adapter]:
            del self._users[adapter]
            self._idle[adapter] = None

    def take_loading_s(self) -> float:
        """Return by how much the step that was just planned takes longer, for the adapters that it needs first."""
        seconds, self._loading_s = self._loading_s, 0.0
        return seconds

    def clear(self) -> None:
        """Lose all, as when the replica dies."""
        self._users.clear()
        self._idle.clear()
        self._loading_s = 0.0
