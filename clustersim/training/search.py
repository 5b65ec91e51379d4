"""The fastest layout of a training job: a small exhaustive search, in the order of a bound, cut by it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from clustersim.errors import InputError
from clustersim.models.layout import check_layout
from clustersim.training.layout import RECOMPUTE, TrainingLayout
from clustersim.training.price import TrainingCost
from clustersim.training.step import TrainingStep, all_stages_s, memory_of, num_sequences, step_of

_MICRO_BATCHES = (1, 2, 4, 8)
_STAGES = (1, 2, 4, 8, 16, 32, 64)
_VIRTUAL = (1, 2, 4, 8, 16)
#: A context parallel rank keeps at least so many tokens of a sequence: with fewer, its exchanges outweigh its work.
_LEAST_TOKENS = 4096
_MOST_EXPERT_RANKS = 256


def best_step(cost: TrainingCost, global_batch_tokens: int) -> tuple[TrainingCost, TrainingStep]:
    """Return the fastest step on all accelerators of the cluster, and the cost with the recipe that it needs.

    Searched: tp within a node, cp, pp, ep, virtual stages and micro-batch in powers of two; ZeRO the recipe's, and 3
    without a pipeline; the least recomputation that fits, from the recipe's on. Raises InputError where nothing fits.
    """
    num = num_sequences(cost, global_batch_tokens)
    best: tuple[TrainingCost, TrainingStep] | None = None
    for bound_s, layout in sorted(_bounded(cost, num), key=lambda each: (each[0], str(each[1]))):
        if best is not None and bound_s >= best[1].step_s:
            break
        for able in _able(cost, layout, num):
            step = step_of(able, layout, num, memory_of(able, layout, num))
            if best is None or step.step_s < best[1].step_s:
                best = (able, step)
    if best is None:
        raise InputError(
            f"{cost.spec.name} with {num} sequences a step fits {cost.cluster.num_accelerators} "
            f"{cost.device.name} in no layout; use more accelerators, or ones with more memory"
        )
    return best


def fitting(cost: TrainingCost, layout: TrainingLayout, num: int) -> str | None:
    """Return in words the smallest change of recipe or pipeline with which a layout fits, None where none does."""
    for pp in (layout.pp, *(pp for pp in _STAGES if pp > layout.pp)):
        dp, rest = divmod(layout.dp * layout.pp, pp)
        if rest or pp > cost.spec.num_layers or (layout.cp * dp) % layout.parallelism.attention_dp:
            continue
        changed = layout.model_copy(update={"pp": pp, "dp": dp, "virtual_stages": 1})
        if pp == layout.pp:
            changed = layout
        for recompute, zero in product(RECOMPUTE, sorted({cost.recipe.zero, max(1, cost.recipe.zero)})):
            able = cost.varied(zero, recompute)
            if memory_of(able, changed, num).fits:
                where = "" if pp == layout.pp else f"pp {pp}, dp {dp}, "
                return f"{where}recompute: {recompute}, zero: {zero}"
    return None


def _bounded(cost: TrainingCost, num: int) -> Iterator[tuple[float, TrainingLayout]]:
    """Yield layouts with a time that no step of theirs beats: every micro-batch on a mean stage, and the bubble."""
    known: dict[tuple[int, int, int, int], float] = {}
    for layout in _layouts(cost, num):
        key = (layout.tp, layout.cp, layout.ep, layout.micro_batch)
        if key not in known:
            known[key] = all_stages_s(cost, cost.micro_batch(layout))
        passes = layout.num_micro_batches(num) + (layout.pp - 1) / layout.virtual_stages
        yield passes * known[key] / layout.pp, layout


def _layouts(cost: TrainingCost, num: int) -> Iterator[TrainingLayout]:
    total, spec, node = cost.cluster.num_accelerators, cost.spec, cost.cluster.node
    experts = spec.moe.num_experts if spec.moe else 1
    for tp, cp in product(_powers(min(node.count, total)), _powers(max(1, cost.seq_len // _LEAST_TOKENS))):
        for ep in (n for n in _powers(min(experts, _MOST_EXPERT_RANKS)) if experts % n == 0):
            base = TrainingLayout(tp=tp, cp=cp, ep=ep)
            if max(tp, ep) % min(tp, ep) or check_layout(spec, base.parallelism):
                continue
            found = list(_shapes(base, total, spec.num_layers, num))
            if found:
                cost.tabulate(base, _MICRO_BATCHES)
                yield from found


def _shapes(base: TrainingLayout, total: int, num_layers: int, num: int) -> Iterator[TrainingLayout]:
    for pp, micro in product(_STAGES, _MICRO_BATCHES):
        dp, rest = divmod(total, base.tp * base.cp * pp)
        spread = base.parallelism.attention_dp
        if rest or not dp or pp > num_layers or dp * micro > num or (base.cp * dp) % spread:
            continue
        layout = base.model_copy(update={"pp": pp, "dp": dp, "micro_batch": micro})
        for chunks in _VIRTUAL if pp > 1 and layout.num_micro_batches(num) >= pp else (1,):
            if pp * chunks <= num_layers:
                yield layout.model_copy(update={"virtual_stages": chunks})


def _able(cost: TrainingCost, layout: TrainingLayout, num: int) -> Iterator[TrainingCost]:
    """Yield the cost with the least recomputation that fits, for each ZeRO stage in question."""
    for zero in sorted({cost.recipe.zero, 3} if layout.pp == 1 else {cost.recipe.zero}):
        able = with_recompute(cost, layout, num, zero)
        if able is not None:
            yield able


def with_recompute(
    cost: TrainingCost, layout: TrainingLayout, num: int, zero: int | None = None
) -> TrainingCost | None:
    """Return the cost with the least recomputation that fits `num` sequences, from the recipe's on; None: none."""
    for recompute in RECOMPUTE[RECOMPUTE.index(cost.recipe.recompute) :]:
        able = cost.varied(cost.recipe.zero if zero is None else zero, recompute)
        if memory_of(able, layout, num).fits:
            return able
    return None


def _powers(most: int) -> list[int]:
    return [2**n for n in range(most.bit_length()) if 2**n <= most]
