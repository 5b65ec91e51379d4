"""What runs between two timed calls on a core: a decoder layer, as in a step, where no operator follows itself.

An operator of tens of microseconds that is called in a loop finds its code, the interpreter's and its tables in the
nearest caches, and takes a third to a half of what it takes in a step (measured on an AMD EPYC with 32 MiB of
last-level cache). After a layer of other operators over cold weights it finds them where a step does.
"""

from __future__ import annotations

import itertools
import math

from calibrate.backend import DeviceBackend, Timed
from calibrate.benches import operators
from calibrate.benches.operands import draw, num_copies
from calibrate.benches.paged import new_cache
from calibrate.benches.sizes import step_model
from calibrate.benches.step import Llama
from clustersim.models.precision import bytes_per_element
from clustersim.models.spec import GroupedQueryAttention

#: A small batch in the middle of its answers, 16 tokens a page: what it reads is mostly weights, as when serving.
_BATCH, _CONTEXT, _PAGE = 8, 512, 16
#: Words of the vocabulary, which a layer does not see.
_VOCAB = 16
_BLOCK = 2**20


def layer(backend: DeviceBackend) -> Timed:
    """Return a call of one decoder layer that decodes a batch, on other weights and another cache each time.

    The layers together exceed twice the last-level cache; they are nobody's operands.
    """
    import torch

    dtype = backend.dtypes[0]
    one = step_model(backend.kind, 1).model_copy(update={"vocab_size": _VOCAB})
    layers = num_copies(one.num_parameters * bytes_per_element(dtype), backend)
    spec = one.model_copy(update={"num_layers": layers})
    weights = draw(backend, dtype, _BLOCK).repeat(math.ceil(spec.num_parameters / _BLOCK))
    llama, attention = Llama(spec, dtype, backend, weights), spec.attention
    assert isinstance(attention, GroupedQueryAttention)
    heads, kv_heads, size = attention.num_heads, attention.num_kv_heads, attention.head_dim
    caches = [
        new_cache(backend, dtype, _BATCH, _CONTEXT, heads, kv_heads, size, _PAGE) for _ in range(layers)
    ]
    tables = operators.rope_tables(
        torch.full((_BATCH,), _CONTEXT - 1, device=backend.torch_device), size, weights.dtype
    )
    x, residual = (draw(backend, dtype, _BATCH, spec.hidden_size) for _ in "xr")
    turn = itertools.cycle(range(layers))

    def attend(number: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return caches[number].decode(q, k, v).view(_BATCH, heads * size)

    return lambda: llama.layer(next(turn), x, residual, tables, attend)
