"""Measurement in, device profiles out: clustersim reads what this package writes, and never imports it.

Here stand the definitions of flops, bytes, depth and tasks, one function a family of operators, that every
fit uses (the law is in `clustersim.cost.profile`). Columns are those of aiconfigurator's tables;
`DEVICES` says which tables describe a device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clustersim.cost.profile import Array
from clustersim.units import MEGA, MILLI

Mask = NDArray[np.bool_]

#: Bytes of an element of the weights and of the activations read (1 where not named), scales included.
_WEIGHT_BYTES = {"bf16": 2.0, "nvfp4": 0.5625, "w4a16": 0.5, "w4a16_mxfp4": 0.53125, "w4a8_mxfp4": 0.53125}
_ACTIVATION_BYTES = {"bf16": 2.0, "nvfp4": 0.5625, "w8a16": 2.0, "w4a16": 2.0, "w4a16_mxfp4": 2.0}


class Rows(NamedTuple):
    """A table's rows as the law sees them (arrays of one length) and as they are judged."""

    flops: Array
    bytes: Array
    depth: Array
    tasks: Array
    weight: Array
    """Pull on the fit: 1 for the shapes of models."""
    headline: Mask
    """Rows that the reported error is on."""
    bands: dict[str, Mask]
    alike: Mask | None = None
    """Rows of the kind that rules the fit, where the law cannot tell kinds apart: attention with a head size of 128."""


def _columns(table: pd.DataFrame, *names: str) -> list[Array]:
    return [table[name].to_numpy(dtype=float) for name in names]


def gemm_work(table: pd.DataFrame, dtype: str) -> Rows:
    """C[m,n] = A[m,k] B[k,n]. Headline: n and k at least 1024."""
    m, n, k = _columns(table, "m", "n", "k")
    a, w = _ACTIVATION_BYTES.get(dtype, 1.0), _WEIGHT_BYTES.get(dtype, 1.0)
    large = (n >= 1024) & (k >= 1024)
    tasks = np.ceil(m / 128) * np.ceil(n / 128)
    bands = {"m <= 256": large & (m <= 256), "m >= 1024": large & (m >= 1024), "all shapes": m > 0}
    return Rows(
        2 * m * n * k, m * k * a + k * n * w + m * n * 2, k, tasks, np.where(large, 1, 0.05), large, bands
    )


def attention_prefill_work(table: pd.DataFrame, dtype: str) -> Rows:
    """Causal attention of `isl` tokens, no window. Headline: 1 GFLOP or more, head size 128."""
    b, tokens, h, kv, d = _columns(table, "batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim")
    element = 1.0 if dtype == "fp8" else 2.0
    flops = 4 * b * h * d * tokens * (tokens + 1) / 2
    read = b * tokens * d * (h * (element + 2) + 2 * kv * element)
    common = (flops >= 1e9) & (d == 128)
    weight = np.where(flops >= 1e9, 1, 0.1) * np.where(d == 128, 1, 0.05)
    bands = {"100 GFLOP and more": common & (flops >= 1e11), "all shapes": b > 0}
    return Rows(flops, read, tokens, b * h * np.ceil(tokens / 128), weight, common, bands, d == 128)


def attention_decode_work(table: pd.DataFrame, dtype: str) -> Rows:
    """One query token a sequence over step + 1 tokens. Headline: >= 128 tokens and 1 MB, head size 128."""
    b, step, h, kv, d = _columns(table, "batch_size", "step", "num_heads", "num_key_value_heads", "head_dim")
    cache = b * (step + 1) * kv * d * 2 * (1.0 if dtype == "fp8" else 2.0)
    common = (step >= 127) & (cache >= MEGA) & (d == 128)
    weight = np.where(cache >= 64e6, 1, np.where(cache >= 1e6, 0.5, 0.1)) * np.where(d == 128, 1, 0.05)
    weight = weight * np.where(step >= 127, 1, 0.2)
    flops, read, bands = 4 * b * (step + 1) * h * d, cache + b * h * d * 4, _by_cache(cache)
    return Rows(flops, read, step + 1, b * kv, weight, common, bands, d == 128)


def mla_prefill_work(table: pd.DataFrame, dtype: str) -> Rows:  # noqa: ARG001 - a contract
    """Causal multi-head latent attention, not absorbed: 128 + 64 query and key, 128 value elements a head."""
    b, tokens, h = _columns(table, "batch_size", "isl", "num_heads")
    flops = 2 * b * h * tokens * (tokens + 1) / 2 * (128 + 64 + 128)
    common = flops >= 1e9
    bands = {"100 GFLOP and more": flops >= 1e11, "all shapes": b > 0}
    read = b * tokens * h * (192 + 192 + 128 + 128) * 2
    return Rows(flops, read, tokens, b * h * np.ceil(tokens / 128), np.where(common, 1, 0.1), common, bands)


def mla_decode_work(table: pd.DataFrame, dtype: str) -> Rows:
    """Absorbed latent attention: 512 + 64 elements a token, shared by all heads. Headline: 1 MB or more."""
    b, step, h = _columns(table, "batch_size", "step", "num_heads")
    cache = b * (step + 1) * (512 + 64) * (1.0 if dtype == "fp8" else 2.0)
    weight = np.where(cache >= 64e6, 1, np.where(cache >= 1e6, 0.5, 0.1))
    flops = 2 * b * h * (step + 1) * (2 * 512 + 64)
    read = cache + b * h * (512 + 64 + 512) * 2
    return Rows(flops, read, step + 1, b, weight, cache >= MEGA, _by_cache(cache))


def _by_cache(cache: Array) -> dict[str, Mask]:
    middle = (cache >= 1e6) & (cache < 64e6)
    return {
        "KV < 1 MB": cache < 1e6,
        "KV 1-64 MB": middle,
        "KV >= 64 MB": cache >= 64e6,
        "all shapes": cache > 0,
    }


def moe_work(table: pd.DataFrame, dtype: str) -> Rows:
    """Experts of one rank under even load, unfused: permute, gate and up, activate, down, unpermute.

    The rank sees all `tokens`, holds experts / ep experts and inter / tp of each, and works on
    rows = tokens * topk / ep over touched = min(tokens * topk, experts) / ep experts (at least one of each).
    """
    tokens, hidden, inter, topk, experts, tp, ep = _columns(
        table, "num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size"
    )
    matrices = np.where(table.kernel_source.str.contains("nongated"), 2.0, 3.0)
    inter = inter / tp
    rows = np.maximum(tokens * topk / ep, 1.0)
    touched = np.maximum(np.minimum(tokens * topk, experts) / ep, 1.0)
    weights = touched * matrices * hidden * inter * _WEIGHT_BYTES.get(dtype, 1.0)
    activations = 2 * (rows * (4 * hidden + 2 * matrices * inter) + 2 * tokens * hidden)
    tiles = rows / 128 * ((matrices - 1) * inter + hidden) / 128
    common = inter >= 256
    bands = {
        "tokens <= 256": common & (tokens <= 256),
        "tokens >= 1024": common & (tokens >= 1024),
        "all shapes": tokens > 0,
    }
    flops = 2 * rows * matrices * hidden * inter
    depth = np.maximum(hidden, inter)
    return Rows(flops, weights + activations, depth, tiles, np.where(common, 1, 0.3), common, bands)


class Family(NamedTuple):
    """A family's table: folder, file, the column of its data type, the rows kept, and its work."""

    folder: str
    file: str
    dtype: str
    keep: str
    work: Callable[[pd.DataFrame, str], Rows]


_EVEN = "distribution == 'balanced'"
_FULL = "window_size == 0 and attn_dtype == kv_cache_dtype"
_GROUPED = "window_size == 0 and num_heads <= 32 * num_key_value_heads"
FAMILIES = {
    "gemm": Family("gemm", "gemm_perf", "gemm_dtype", "m > 0", gemm_work),
    "attention_prefill": Family(
        "attention", "context_attention_perf", "attn_dtype", _FULL, attention_prefill_work
    ),
    "attention_decode": Family(
        "attention", "generation_attention_perf", "kv_cache_dtype", _GROUPED, attention_decode_work
    ),
    "mla_prefill": Family("mla", "context_mla_perf", "kv_cache_dtype", "isl > 0", mla_prefill_work),
    "mla_decode": Family("mla", "generation_mla_perf", "kv_cache_dtype", "step > 0", mla_decode_work),
    "moe": Family("moe", "moe_perf", "moe_dtype", _EVEN, moe_work),
}


@dataclass(frozen=True)
class Device:
    """Which tables describe a device, and its scale-up fabric."""

    tables: str
    nccl: str
    link_gb_per_s: float
    """Per direction and GPU, from the datasheet: NVLink 3 / 4 / 5 or PCIe 4 / 5 x16."""
    engines: Mapping[str, tuple[str, str]]
    """Engine and version by folder of tables, "" for the rest."""
    keep: Mapping[str, str] = field(default_factory=dict)
    """A further condition on the rows, by folder of tables."""
    caveats: tuple[str, ...] = ()
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Family -> data types whose rows are not used."""

    @property
    def engine(self) -> tuple[str, str]:
        """Return the engine, and its version, whose kernels name the profile."""
        return self.engines.get("gemm", self.engines[""])


_TRTLLM = {"": ("trtllm", "1.3.0rc20")}
_CACHE = "Rows that {} MB of L2 cache lets beat the memory are refused; near ones may flatter."
_NVL72 = "NCCL measured on 2 and 4 of the 72 GPUs."
DEVICES = {
    "a100-sxm-80gb": Device(
        "a100_sxm", "2.27.3", 300.0,
        {"": ("trtllm", "1.0.0"), "attention": ("vllm", "0.14.0"), "moe": ("sglang", "0.5.10")},
        {"moe": "moe_ep_size == 1"},
        ("Attention from vllm 0.14.0: 22 % of trtllm 1.0.0's decode rows over 64 MB beat the bandwidth.",
         "moe from sglang 0.5.10, one expert-parallel rank: trtllm 1.0.0 has no evenly loaded rows."),
    ),
    "h100-sxm": Device("h100_sxm", "2.29.2", 450.0, _TRTLLM),
    "h200-sxm": Device("h200_sxm", "2.29.2", 450.0, _TRTLLM),
    "b200-sxm": Device("b200_sxm", "2.29.2", 900.0, _TRTLLM),
    "b300-sxm": Device("b300_sxm", "2.29.2", 900.0, _TRTLLM),
    "gb200-nvl72": Device("gb200", "2.29.2", 900.0, _TRTLLM, {}, (_NVL72,)),
    "gb300-nvl72": Device("gb300", "2.29.2", 900.0, _TRTLLM, {}, (_NVL72,)),
    "l40s": Device(
        "l40s", "2.27.3", 31.0, {"": ("trtllm", "1.3.0rc20"), "mla": ("trtllm", "1.0.0")}, {},
        (_CACHE.format(96), "mla from trtllm 1.0.0."),
    ),
    "rtx-pro-6000-server": Device(
        "rtx_pro_6000_server", "2.29.2", 63.0, _TRTLLM,
        {"moe": "moe_dtype != 'fp8_block' or moe_ep_size == 1"},
        (_CACHE.format(128),
         "moe fp8_block from one expert-parallel rank: its kernel walks the others' tokens too."),
    ),
}  # fmt: skip

_VLLM_CAVEAT = (
    "mla, collectives, moe_imbalance, fp8 matrix products and data types that vllm has no table of are those of the"
    " profile silicon (trtllm 1.3.0rc20): vllm timed its fp8 ones with the host in the way (70 us and more at any"
    " size for fp8_block)."
)
_VLLM = {**_TRTLLM, **dict.fromkeys(("gemm", "moe", "attention"), ("vllm", "0.24.0"))}
_HOPPER_CAVEAT = (
    "moe fp8 is that of silicon, too: vllm timed FlashInfer's CUTLASS kernel as nobody had tuned it, 3.7 (H100) and 4.1"
    " (H200) times as long as trtllm the same in the median, 2.3 times as long as its own bf16, and as long on an H200"
    " as on an H100; vllm 0.19.0 took 0.2 ms on an H200 for what 0.24.0 takes 1.1."
)
#: Name of a profile -> devices. Those after the first hold another engine's kernels, the rest from the first.
VARIANTS: Mapping[str, Mapping[str, Device]] = {
    "silicon": DEVICES,
    "vllm": {
        name: replace(
            DEVICES[name],
            engines=_VLLM,
            left_out={"gemm": ("fp8", "fp8_block"), **more},
            caveats=(_VLLM_CAVEAT, *caveats),
        )
        for name, more, caveats in (
            ("h100-sxm", {"moe": ("fp8",)}, (_HOPPER_CAVEAT,)),
            ("h200-sxm", {"moe": ("fp8",)}, (_HOPPER_CAVEAT,)),
            ("b200-sxm", {}, ()),
        )
    },
}


def tables_folder() -> Path:
    """Return where the package keeps its tables; raises ImportError that names the extra."""
    try:
        import aiconfigurator_core
    except ImportError:
        raise ImportError("fitting needs the measured tables: pip install 'clustersim[silicon]'") from None
    return Path(aiconfigurator_core.__file__).parent / "systems" / "data"


def read_table(device: Device, family: Family) -> tuple[pd.DataFrame, str]:
    """Return a family's kept rows, the best kernel a shape, with `seconds`, and the table's path."""
    engine, version = device.engines.get(family.folder, device.engines[""])
    path = tables_folder() / device.tables / family.folder / engine / version / f"{family.file}.parquet"
    if not path.exists():
        return pd.DataFrame(), ""
    table = pd.read_parquet(path)
    if "window_size" not in table:
        table["window_size"] = 0
    if family.folder == "moe":
        table = table[~table.kernel_source.str.endswith("min_latency")]
    table = table.query(family.keep).query(device.keep.get(family.folder, "latency > 0"))
    table = table.assign(seconds=table.latency * MILLI).sort_values("latency")
    told_by = {"framework", "version", "device", "op_name", "kernel_source", "latency", "seconds", "tp_size"}
    shape = [column for column in table if column not in told_by]
    return table.drop_duplicates(shape), str(path.relative_to(tables_folder()))
