"""Named random streams: one a purpose, so that a change in one part leaves all other randomness as it was."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *names: str) -> np.random.Generator:
    """Return the generator of the purpose `names` ("chat", "arrivals") under `seed` (zero or more).

    The key is BLAKE2b-128 over the names, each with its length, so no two lists of names collide by joining.
    """
    if seed < 0:
        raise ValueError(f"a seed is zero or more, not {seed}")
    return np.random.default_rng(np.random.SeedSequence([seed, _digest(*names)]))


def replication_seed(seed: int, index: int) -> int:
    """Return the seed of replication `index`: `seed` itself for 0, else 53 bits (as JSON keeps) from both."""
    if index < 0:
        raise ValueError(f"replications count from 0, not {index}")
    return seed if index == 0 else _digest("replication", str(seed), str(index)) >> 75


def _digest(*names: str) -> int:
    """Return a 128-bit integer that depends on the names and their order alone, on every machine alike."""
    key = hashlib.blake2b(digest_size=16)
    for name in names:
        text = name.encode()
        key.update(len(text).to_bytes(8, "little") + text)
    return int.from_bytes(key.digest(), "little")
