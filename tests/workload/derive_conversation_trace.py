"""How scenarios/traces/conversations.jsonl is made: conversations in the form of Mooncake's traces.

    python tests/workload/derive_conversation_trace.py > scenarios/traces/conversations.jsonl

Nobody's data: conversations come at random, each begins with one of a few system prompts and a long document, and every
turn has all that was said before. Parameters are chosen so that inputs (12,000 tokens in the mean), outputs (340) and the
share of input that an infinite cache would find (37 %) are about those of Mooncake's conversation trace
(kvcache-ai/Mooncake, FAST'25), in a thirtieth of its requests.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

BLOCK = 512
NUM_REQUESTS = 400
RATE_PER_S = 1.0
#: Mean pause between an answer's request and the next, seconds: at this rate some 90 other requests come between.
PAUSE_S = 90.0
#: Chance that another turn follows.
GOES_ON = 0.44
SYSTEM_BLOCKS = (1, 2, 4)
SYSTEM_SHARES = (0.6, 0.3, 0.1)


def conversations(seed: int = 0) -> list[dict[str, Any]]:
    """Return the trace's rows in order of time."""
    rng = np.random.default_rng(seed)
    turns: list[tuple[float, int, int, list[int]]] = []
    next_id = sum(SYSTEM_BLOCKS)

    def fresh(count: int) -> list[int]:
        nonlocal next_id
        next_id += count
        return list(range(next_id - count, next_id))

    start_s = 0.0
    while len(turns) < 2 * NUM_REQUESTS:
        start_s += float(rng.exponential(1 / (RATE_PER_S * (1 - GOES_ON))))
        which = int(rng.choice(len(SYSTEM_BLOCKS), p=SYSTEM_SHARES))
        first = sum(SYSTEM_BLOCKS[:which])
        full = list(range(first, first + SYSTEM_BLOCKS[which]))
        length, now = len(full) * BLOCK + int(rng.lognormal(8.7, 1.2)) + 1, start_s
        while True:
            full = full + fresh(length // BLOCK - len(full))
            output = int(np.clip(rng.lognormal(5.45, 0.9), 1, 4000))
            rest = fresh(1) if length % BLOCK else []
            turns.append((now, length, output, full + rest))
            if rng.random() > GOES_ON:
                break
            now += float(rng.exponential(PAUSE_S))
            length += output + int(rng.lognormal(6.6, 1.3)) + 1
    turns.sort()
    return _numbered([turn for turn in turns if turn[1] < 120_000][:NUM_REQUESTS])


def _numbered(turns: list[tuple[float, int, int, list[int]]]) -> list[dict[str, Any]]:
    """Return rows with times from 0 in ms and ids numbered as they first come."""
    names: dict[int, int] = {}
    return [
        {"timestamp": round((now - turns[0][0]) * 1000), "input_length": length, "output_length": output,
         "hash_ids": [names.setdefault(each, len(names)) for each in ids]}
        for now, length, output, ids in turns
    ]  # fmt: skip


def lines() -> str:
    """Return the file."""
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in conversations())


if __name__ == "__main__":
    sys.stdout.write(lines())
