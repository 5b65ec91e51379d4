"""How a request is taken off a deployment before it is done: off a replica, on its way to one, or waiting for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clustersim.records import CANCELLED
from clustersim.serving.replica import Replica

if TYPE_CHECKING:
    from clustersim.simulation.front import Front


def cancel(front: Front, request: int, now: float) -> None:
    """Take a request off, wherever it is, at the next step boundary; what it made is written down."""
    outside = _outside(front, request)
    if outside is not None:
        write_off(front, request, now, outside.pop(request))
    elif front.handover is None or not front.handover.cancel(request, now):
        replica = front.replica_of(request)
        front.unload(request, replica)
        take_off(front, request, replica, now)


def withdraw(front: Front, request: int, now: float) -> None:
    """Take a request off the queue that it waits in, for a place in a batch or for a replica."""
    outside = _outside(front, request)
    if outside is not None:
        del outside[request]
        return
    replica = front.replica_of(request)
    front.unload(request, replica)
    if front.offload is None or front.offload.cancel(request) is None:
        replica.withdraw(request, now)


def take_off(front: Front, request: int, replica: Replica, now: float) -> None:
    """Cancel a request at its replica, or what is on its way there for it."""
    loading = None if front.offload is None else front.offload.cancel(request)
    if loading is None:
        replica.cancel(request, now)
    else:
        write_off(front, request, now, loading.left)


def abandon(front: Front, request: int, replica: Replica, now: float) -> None:
    """Forget a request at its replica that another replica knows the end of."""
    if front.offload is None or front.offload.cancel(request) is None:
        replica.abandon(request, now)


def write_off(front: Front, request: int, now: float, left: int | None) -> None:
    """Write down a cancelled request that is on no replica; `left` are the output tokens it still had to make."""
    records = front.records
    thinking, answer = records.thinking_tokens[request], records.answer_tokens[request]
    made = 0 if left is None else thinking + answer - left
    records.status[request] = CANCELLED
    records.finish_s[request] = now
    records.thinking_tokens[request] = min(thinking, made)
    records.answer_tokens[request] = made - min(thinking, made)


def _outside(front: Front, request: int) -> dict[int, int | None] | None:
    """Return the table (request -> output tokens left) of a request that is on no replica; None if it is on one."""
    return next((left for left in (front.parking.left, front.retries.left) if request in left), None)
