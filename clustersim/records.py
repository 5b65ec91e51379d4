"""Row types: what a simulation writes down. Columns in arrays, one row a request or a run; never an object a token."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, MutableSequence
from struct import Struct
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: A view that reads and writes plain Python numbers.
FloatView = MutableSequence[float]
IntView = MutableSequence[int]

#: Request states in the order they pass.
WAITING, FINISHED, REJECTED, CANCELLED, SHED, LOST = 0, 1, 2, 3, 4, 5
STATUS: Final = ("unfinished", "finished", "rejected", "cancelled", "shed", "lost")


class Columns:
    """Rows whose columns are arrays, written in plain Python numbers: floats nan, integers 0 until they are known."""

    FLOATS: ClassVar[tuple[str, ...]] = ()
    INTS: ClassVar[tuple[str, ...]] = ()
    UNKNOWN: ClassVar[tuple[str, ...]] = ()
    """Integers that are -1 until they are known."""

    def __init__(self, capacity: int) -> None:
        self.num = 0
        self._arrays: dict[str, Floats | Ints] = {}
        self._allocate(max(1, capacity))

    def _allocate(self, capacity: int) -> None:
        for name in (*self.FLOATS, *self.INTS):
            old = self._arrays.get(name)
            new: Floats | Ints = (
                np.full(capacity, np.nan)
                if name in self.FLOATS
                else np.full(capacity, -1 if name in self.UNKNOWN else 0, dtype=np.int64)
            )
            if old is not None:
                new[: self.num] = old[: self.num]
            self._arrays[name] = new
            # A view of the array's buffer reads and writes plain Python numbers, several times faster than NumPy.
            setattr(self, name, memoryview(new.data))
        self._capacity = capacity

    def add(self) -> int:
        """Append an empty row and return its index."""
        row = self.num
        if row == self._capacity:
            self._allocate(2 * row)
        self.num = row + 1
        return row

    def extend(self, columns: Mapping[str, Floats | Ints]) -> range:
        """Append rows given as equally long columns and return their indices."""
        count = len(next(iter(columns.values())))
        start = self.num
        if start + count > self._capacity:
            self._allocate(max(start + count, 2 * self._capacity))
        for name, values in columns.items():
            self._arrays[name][start : start + count] = values
        self.num = start + count
        return range(start, self.num)

    def column(self, name: str) -> Floats | Ints:
        """Return one column, a view of shape (num,)."""
        return self._arrays[name][: self.num]


class RequestRecords(Columns):
    """One row a request. Times are in seconds on the simulated clock, nan until they happen.

    arrival_s; entered_s (through the frontend, in the scheduler's queue); scheduled_s (first time in a batch);
    first_token_s; first_answer_s (first token after thinking); finish_s; input_tokens, thinking_tokens,
    answer_tokens (those that it made, once it is cancelled); cached_tokens of the input, found in the KV cache;
    deployment, replica, workload, tenant (indices); adapter, prefix (row of the workload's table of prefixes), -1 for
    none; priority (lower goes first); task (row of TaskRecords, -1 for none), role (index into ROLES); num_preemptions;
    num_retries after replicas that died, lost_tokens made in vain; adapter_loads, times that its LoRA adapter had to be
    loaded for it; status (index into STATUS): rejected is what no replica could ever hold, shed what was refused for
    load, lost what died with its replica and was not tried again.
    """

    FLOATS = ("arrival_s", "entered_s", "scheduled_s", "first_token_s", "first_answer_s", "finish_s")
    INTS = (
        "input_tokens", "thinking_tokens", "answer_tokens", "cached_tokens",
        "deployment", "replica", "workload", "tenant", "adapter", "prefix", "priority", "task", "role",
        "num_preemptions", "num_retries", "lost_tokens", "adapter_loads", "status",
    )  # fmt: skip
    UNKNOWN = ("adapter", "prefix")

    arrival_s: FloatView
    entered_s: FloatView
    scheduled_s: FloatView
    first_token_s: FloatView
    first_answer_s: FloatView
    finish_s: FloatView
    input_tokens: IntView
    thinking_tokens: IntView
    answer_tokens: IntView
    cached_tokens: IntView
    deployment: IntView
    replica: IntView
    workload: IntView
    tenant: IntView
    adapter: IntView
    prefix: IntView
    priority: IntView
    task: IntView
    role: IntView
    num_preemptions: IntView
    num_retries: IntView
    lost_tokens: IntView
    adapter_loads: IntView
    status: IntView


#: What a request of a task was: a candidate that was not used, part of the answer given, or a check of a candidate.
CANDIDATE, USEFUL, CHECK = 0, 1, 2
ROLES: Final = ("candidate", "useful", "check")

#: Task states.
ANSWERED, GAVE_UP = 1, 2
TASK_STATUS: Final = ("unfinished", "answered", "gave_up")


class TaskRecords(Columns):
    """One row a task. Times as in RequestRecords.

    arrival_s; first_output_s (when the first token of the answer can be shown); finish_s (when the program ends);
    difficulty (quantile among the problems, 0 easiest); success (chance that one plain attempt is right, nan without
    a benchmark); correct (1 or 0, nan without a benchmark); input_tokens, thinking_tokens, answer_tokens of one plain
    attempt; workload, tenant (indices); status (index into TASK_STATUS).
    """

    FLOATS = ("arrival_s", "first_output_s", "finish_s", "difficulty", "success", "correct")
    INTS = ("input_tokens", "thinking_tokens", "answer_tokens", "workload", "tenant", "status")

    arrival_s: FloatView
    first_output_s: FloatView
    finish_s: FloatView
    difficulty: FloatView
    success: FloatView
    correct: FloatView
    input_tokens: IntView
    thinking_tokens: IntView
    answer_tokens: IntView
    workload: IntView
    tenant: IntView
    status: IntView


class TransferRecords(Columns):
    """One row for each request whose KV went from the replica that prefilled it to the one that decodes it.

    start_s (the first byte may leave), end_s (the last has arrived, nan if it never did); bytes; request; source and
    target (replicas).
    """

    FLOATS = ("start_s", "end_s", "bytes")
    INTS = ("request", "source", "target")

    start_s: FloatView
    end_s: FloatView
    bytes: FloatView
    request: IntView
    source: IntView
    target: IntView


class LoadRecords(Columns):
    """One row for each tier that a request loaded KV from before it was queued.

    start_s, end_s (nan if it never came); bytes; request, deployment; tier (index into its kv_tiers); tokens loaded;
    used_tokens, those that spared a prefill.
    """

    FLOATS = ("start_s", "end_s", "bytes")
    INTS = ("request", "deployment", "tier", "tokens", "used_tokens")

    start_s: FloatView
    end_s: FloatView
    bytes: FloatView
    request: IntView
    deployment: IntView
    tier: IntView
    tokens: IntView
    used_tokens: IntView


#: States of a replica; it holds accelerators from STARTING on. CUT_OFF: up, but no request reaches it.
OFF, QUEUED, STARTING, UP, DRAINING, CUT_OFF = 0, 1, 2, 3, 4, 5
REPLICA_STATE: Final = ("off", "queued", "starting", "up", "draining", "cut_off")


class SpanRecords(Columns):
    """One row for each time that a replica was in a state other than off: start_s, end_s (nan: to the end)."""

    FLOATS = ("start_s", "end_s")
    INTS = ("replica", "state")

    start_s: FloatView
    end_s: FloatView
    replica: IntView
    state: IntView


#: Columns of a run record; see RunRecords.
RUN_COLUMNS: Final = (
    "replica", "start_s", "end_s", "num_steps", "batch", "context_tokens", "prefill_tokens", "prefill_pairs",
    "prefill_keys", "num_prefills", "largest_chunk", "num_first_tokens", "kv_blocks", "num_waiting",
    "num_stalled",
)  # fmt: skip


#: A run, a number a column, in the bytes that RunRecords.append takes.
pack_run = Struct(f"{len(RUN_COLUMNS)}d").pack


class RunRecords:
    """One row a run: `num_steps` engine steps of one batch composition on one replica.

    In step j (from 0) of a run `batch` sequences decode one token each over context_tokens + j*batch tokens of
    context in all. Beside them prefill_tokens of num_prefills sequences are processed (the longest chunk has
    largest_chunk), with prefill_pairs query-key pairs and prefill_keys keys read; num_first_tokens of these
    sequences end their prefill and make a token. kv_blocks are held at the end of the run, num_waiting requests
    queue at its start. num_stalled sequences that decode stand still in it: those are not in `batch`.
    """

    __slots__ = ("_rows", "append")

    def __init__(self) -> None:
        self._rows = array("d")
        self.append = self._rows.frombytes

    @property
    def num(self) -> int:
        """Runs so far."""
        return len(self._rows) // len(RUN_COLUMNS)

    def columns(self) -> dict[str, Floats]:
        """Return the rows as columns of shape (num_runs,)."""
        table = np.frombuffer(self._rows, dtype=np.float64) if self._rows else np.empty(0)
        table = table.reshape(-1, len(RUN_COLUMNS))
        return {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(RUN_COLUMNS)}
