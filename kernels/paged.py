"""A paged cache for decode kernels, and its dense view for their references."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def refuse_fp32_on_device(dtype: str, device: str) -> None:
    """Raise where attention in fp32, which checks arithmetic in the interpreter, would outgrow shared memory."""
    if dtype == "fp32" and device != "cpu":
        raise NotImplementedError("decode attention in fp32 is for the interpreter: measure fp16 or bf16")


def block_tables(context: Sequence[int], page_size: int, draw: torch.Generator) -> tuple[Tensor, Tensor, int]:
    """Return tables int32 [sequences, most pages], lengths int32 [sequences] and the number of pages.

    Pages are dealt in random order, as they lie in an engine that has run for a while. Page 0 belongs to no
    sequence, and entries past a sequence's end point there.
    """
    if min(context, default=0) < 1:
        raise ValueError("decode attention needs a context of at least one token for each sequence")
    pages = [-(-length // page_size) for length in context]
    device = draw.device
    dealt = torch.randperm(sum(pages), generator=draw, device=device).to(torch.int32) + 1
    tables = torch.zeros((len(pages), max(pages)), dtype=torch.int32, device=device)
    for row, own in zip(tables, dealt.split(pages), strict=True):
        row[: len(own)] = own
    return tables, torch.tensor(context, dtype=torch.int32, device=device), sum(pages) + 1


def gather(cache: Tensor, table: Tensor, length: int) -> Tensor:
    """Return a sequence's rows of the cache [pages, page_size, ...] in order, fp32 [length, ...]."""
    pages = -(-length // cache.shape[1])
    return cache[table[:pages].long()].flatten(0, 1)[:length].float()
