"""A tier holds what is put there until others need the room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clustersim.serving.tiers import Piece, Tier

PIECES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20), st.integers(1, 20)), max_size=40)


@given(PIECES, st.integers(0, 50))
def test_tokens_are_conserved(pieces: list[tuple[int, int, int]], capacity: int) -> None:
    """What came is here, or was handed on, or gave way to a piece after a gap; and there is never too much."""
    tier = Tier(capacity)
    held: dict[int, set[int]] = {}
    order: list[int] = []
    for key, start, length in pieces:
        new = set(range(start, start + length))
        old = held.get(key, set())
        joined = old | new
        if len(joined) != max(joined) - min(joined) + 1:
            old, joined = set(), new  # a gap
        assert tier.put(Piece(key, start, start + length)) == len(joined) - len(old)
        held[key] = joined
        order = [each for each in order if each != key] + [key]
        for gone in tier.overflow():
            stretch = set(range(gone.start, gone.end))
            assert gone.key == order[0], "the least recently used"
            assert stretch <= held[gone.key]
            held[gone.key] -= stretch
            assert not held[gone.key] or max(held[gone.key]) < gone.start, "its end first"
            if not held[gone.key]:
                del held[gone.key]
                order.pop(0)
        assert tier.tokens == sum(map(len, held.values())) <= capacity
        for name in range(5):
            for at in range(45):
                inside = held.get(name, set())
                assert tier.end(name, at) == (max(inside) + 1 if at in inside else at)


def test_what_is_used_stays_longer() -> None:
    tier = Tier(20)
    for key in "ab":
        tier.put(Piece(key, 0, 10))
    tier.touch("a")
    tier.put(Piece("c", 0, 4))
    assert tier.overflow() == [Piece("b", 6, 10)]
    assert tier.put(Piece("b", 6, 10)) == 4
    assert tier.overflow() == [Piece("a", 6, 10)]
    tier.drop("a")
    tier.drop("nobody")
    assert tier.tokens == 14
    assert "a" not in tier
    tier.clear()
    assert (tier.tokens, tier.end("b", 0)) == (0, 0)


@pytest.mark.parametrize("order", ["end first", "beginning first"])
def test_pieces_that_touch_are_one(order: str) -> None:
    tier = Tier(100)
    pieces = [Piece("a", 0, 10), Piece("a", 10, 30), Piece("a", 30, 32)]
    for piece in pieces if order == "beginning first" else reversed(pieces):
        assert tier.put(piece) == piece.end - piece.start
    assert tier.end("a", 0) == 32
    assert tier.put(Piece("a", 5, 31)) == 0
