"""The second stage of split decode attention: merge partial results over spans of the context (flash-decoding).

Stage one leaves, for each split s of a (sequence, head), the attention over its span, o_s (fp32, normalised), and
l_s = log2 of its sum of 2^score, -inf for an empty span. Then out = sum_s 2^(l_s - max l) o_s / sum_s 2^(l_s - max l).
3 rows splits width flops; 4 rows splits (width + 1) + rows width e bytes, an overhead that no `Kernel.work` counts.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import AotSignature
from kernels.dtypes import POINTER
from kernels.targets import Target

MOST_SPLITS = 32


@triton.jit
def span_of(length, split, splits: tl.constexpr, block_n: tl.constexpr):
    """Return start and end of a split's tokens: equal numbers of blocks; the last ones may be short or empty."""
    size = tl.cdiv(tl.cdiv(length, splits), block_n) * block_n
    start = split * size
    return start, tl.minimum(start + size, length)


@triton.jit
def softmax_step(scores, best, total):
    """Fold scores [heads, tokens] into best and total [heads]; return them, 2^(scores - best), the old sums' scale."""
    risen = tl.maximum(best, tl.max(scores, 1))
    weights = tl.exp2(scores - risen[:, None])
    kept = tl.exp2(best - risen)
    return risen, total * kept + tl.sum(weights, 1), weights, kept


@triton.jit
def store_split(
    out, logs, total, best, acc, row, split, mask, columns, splits: tl.constexpr, width: tl.constexpr
):
    """Write acc / total [heads, width] as a partial of rows [heads], or as the result where there is one split."""
    safe = tl.where(total > 0, total, 1.0)
    at = (row.to(tl.int64) * splits + split)[:, None] * width + columns[None, :]
    tl.store(out + at, (acc / safe[:, None]).to(out.dtype.element_ty), mask=mask[:, None])
    if splits > 1:
        tl.store(
            logs + row * splits + split, tl.where(total > 0, best + tl.log2(safe), float("-inf")), mask=mask
        )


@triton.jit
def combine_splits(out, partial, logs, splits: tl.constexpr, width: tl.constexpr):
    """Merge one row of partial [rows, splits, width] and logs [rows, splits] into out [rows, width]; grid (rows,)."""
    row, split, column = tl.program_id(0).to(tl.int64), tl.arange(0, splits), tl.arange(0, width)
    log = tl.load(logs + row * splits + split)
    weight = tl.exp2(log - tl.max(log, 0))
    parts = tl.load(partial + (row * splits + split)[:, None] * width + column[None, :])
    merged = tl.sum(weight[:, None] * parts, 0) / tl.sum(weight, 0)
    tl.store(out + row * width + column, merged.to(out.dtype.element_ty))


def splits_for(programs: int, longest: int, block_n: int, device: str) -> int:
    """Return a power of two of splits: two programs a compute unit, and at least four blocks of tokens a split."""
    cuda = device.startswith("cuda")
    units = torch.cuda.get_device_properties(device).multi_processor_count if cuda else 16
    wanted = min(2 * units // programs, longest // (4 * block_n), MOST_SPLITS)
    return 1 << max(wanted, 1).bit_length() - 1


def workspace(rows: int, splits: int, width: int, out: Tensor) -> tuple[Tensor, Tensor]:
    """Return where stage one writes, partial and logs; with one split that is the output, and logs stay unused."""
    if splits & (splits - 1):
        raise ValueError(f"splits must be a power of two, not {splits}")
    if splits == 1:
        return out, out
    partial = torch.empty((rows, splits, width), device=out.device, dtype=torch.float32)
    return partial, torch.empty((rows, splits), device=out.device, dtype=torch.float32)


def combine(out: Tensor, partial: Tensor, logs: Tensor, splits: int) -> None:
    """Launch the merge into out [sequences, heads, width], unless stage one wrote there."""
    if splits > 1:
        sequences, heads, width = out.shape
        combine_splits[(sequences * heads,)](out, partial, logs, splits=splits, width=width, num_warps=4)


def signature(dtype: str, width: int, splits: int, target: Target) -> AotSignature:
    """Describe the merge."""
    return AotSignature(
        label=f"{dtype} merge of {splits}",
        target=target.name,
        function=combine_splits,
        arguments={"out": POINTER[dtype], "partial": "*fp32", "logs": "*fp32"},
        constants={"splits": splits, "width": width},
    )
