"""Published training speeds, what the model says of the same job, and the table of both in the documentation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import median

from clustersim.economics.prices.published import TcoNeocloud
from clustersim.hardware.node import load_node
from clustersim.hardware.site import load_site
from clustersim.models.hf_config import load_model
from clustersim.models.spec import GroupedQueryAttention, ModelSpec
from clustersim.training.layout import PUBLISHED_SLOWDOWN, Overlap, Recipe, TrainingCluster, TrainingLayout
from clustersim.training.price import TrainingCost
from clustersim.training.run import Pretraining, TrainingRun
from clustersim.training.search import best_step, with_recompute
from clustersim.training.step import TrainingStep, num_sequences, training_step

PAGE = Path(__file__).parents[2] / "docs" / "background" / "training.md"


def gpt(name: str, layers: int, hidden: int, heads: int, vocab: int = 51200, seq: int = 2048) -> ModelSpec:
    """Return a GPT-3-like model: MHA, an ungated MLP of 4 h, learned positions, tied embeddings."""
    attention = GroupedQueryAttention(
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // heads,
        qkv_bias=True,
        output_bias=True,
    )
    return ModelSpec(
        name=name,
        family="gpt",
        num_layers=layers,
        hidden_size=hidden,
        vocab_size=vocab,
        attention=attention,
        intermediate_size=4 * hidden,
        gated=False,
        mlp_bias=True,
        norm_bias=True,
        num_position_embeddings=seq,
        tied_embeddings=True,
        max_context=seq,
    )


@dataclass(frozen=True)
class Case:
    """One published figure of one job; a missing layout is searched for."""

    name: str
    source: str
    spec: Callable[[], ModelSpec]
    node: str
    num_gpus: int
    seq_len: int
    batch_tokens: int
    metric: str
    """mfu and hfu: attention whole, as their sources count; tokens: by second and GPU."""
    value: float
    layouts: tuple[TrainingLayout, ...] = ()
    """Those that the source leaves open: the fastest that fits is taken. None: all are searched."""
    recipe: Recipe = field(default_factory=Recipe)
    """With the least recomputation that fits, from its own on."""
    assumed: str = ""
    """What the source does not say."""

    def step(self) -> TrainingStep:
        """Return the step that the model predicts."""
        cluster = TrainingCluster(node=self.node, num_accelerators=self.num_gpus)
        cost = TrainingCost(self.spec(), cluster, self.recipe, self.seq_len)
        if not self.layouts:
            return best_step(cost, self.batch_tokens)[1]
        num = num_sequences(cost, self.batch_tokens)
        found = [(with_recompute(cost, layout, num), layout) for layout in self.layouts]
        steps = [training_step(able, layout, self.batch_tokens) for able, layout in found if able]
        return min(steps, key=lambda step: step.step_s)

    def predicted(self) -> tuple[float, TrainingStep]:
        """Return the figure that the model predicts, and its step."""
        step, spec = self.step(), self.spec()
        again = step.unmasked_flops / 3 - step.tokens * 2 * spec.vocab_size * spec.hidden_size
        hfu = step.mfu_unmasked * (1 + again / step.unmasked_flops)
        found = {"mfu": step.mfu_unmasked, "hfu": hfu, "tokens": step.tokens_per_s / self.num_gpus}
        return found[self.metric], step


def open_layouts(
    chunks: tuple[int, ...] = (1,), micro: tuple[int, ...] = (1, 2, 4), **given: int
) -> tuple[TrainingLayout, ...]:
    """Return a layout for each number of chunks a stage and each micro-batch."""
    several = chunks if given.get("pp", 1) > 1 else (1,)
    return tuple(TrainingLayout(**given, virtual_stages=v, micro_batch=b) for v in several for b in micro)


def _narayanan(
    name: str, layers: int, hidden: int, heads: int, gpus: int, pp: int, seqs: int, hfu: float
) -> Case:
    tp = 8 if gpus > 64 else 2
    dp = gpus // (tp * pp)
    layouts = open_layouts(tuple(v for v in (1, 2, 4) if pp * v <= layers), tp=tp, pp=pp, dp=dp)
    return Case(
        name, "Narayanan et al. 2021 (arXiv:2104.04473), table 1", lambda: gpt(name, layers, hidden, heads), "dgx-a100",
        gpus, 2048, seqs * 2048, "hfu", hfu, layouts, Recipe(recompute="full"),
        "micro-batch, chunks a stage; distributed optimizer",
    )  # fmt: skip


def _korthikanti(name: str, layers: int, hidden: int, heads: int, gpus: int, pp: int, v: int, b: int, gb: int,
                 mfu: float) -> Case:  # fmt: skip
    layout = TrainingLayout(tp=8, pp=pp, dp=gpus // (8 * pp), virtual_stages=v, micro_batch=b)
    return Case(
        name, "Korthikanti et al. 2022 (arXiv:2205.05198), table 5", lambda: gpt(name, layers, hidden, heads),
        "dgx-a100", gpus, 2048, gb * 2048, "mfu", mfu, (layout,), Recipe(zero=0),
        "without dropout" + ("" if hidden in (6144, 20480) else "; GPUs and batch unconfirmed"),
    )  # fmt: skip


def _core(
    name: str, layers: int, hidden: int, heads: int, gpus: int, tp: int, pp: int, seqs: int, mfu: float
) -> Case:
    layouts = open_layouts((1, 2, 4, 8), tp=tp, pp=pp, dp=gpus // (tp * pp))
    return Case(
        name, "Megatron-Core r0.8 README, weak scaling", lambda: gpt(name, layers, hidden, heads, 131072, 4096),
        "hgx-h100", gpus, 4096, seqs * 4096, "mfu", mfu, layouts, Recipe(),
        "micro-batch, chunks a stage",
    )  # fmt: skip


def _mpt(name: str, layers: int, hidden: int, heads: int, node: str, gpus: int, micro: int, batch: int,
         tokens: float, recompute: str = "full") -> Case:  # fmt: skip
    layout = TrainingLayout(dp=gpus, micro_batch=micro)
    recipe = Recipe(zero=3, gradient_bytes=2.0, recompute=recompute)  # type: ignore[arg-type]  # one of the three
    return Case(
        name, "MosaicML llm-foundry, MPT training benchmarks", lambda: gpt(name, layers, hidden, heads, 50368),
        node, gpus, 2048, batch * 2048, "tokens", tokens, (layout,), recipe, "fp32 copy and moments kept",
    )  # fmt: skip


def _llama_405b(gpus: int, tflops: float) -> Case:
    layouts = open_layouts((1, 2, 4, 7), (1,), tp=8, pp=16, dp=gpus // 128)
    return Case(
        f"Llama-3.1-405B, {gpus:,} GPUs", "Llama 3 Herd of Models (arXiv:2407.21783), table 4",
        lambda: load_model("llama-3.1-405b"), "hgx-h100", gpus, 8192, 2**24, "mfu", tflops / 989, layouts,
        Recipe(), "chunks a stage",
    )  # fmt: skip


_BRIDGE = "NVIDIA Megatron-Bridge performance summary, release 26.04.01"
CASES: tuple[Case, ...] = (
    _narayanan("GPT-3.6B", 30, 3072, 32, 64, 1, 512, 0.44),
    _narayanan("GPT-18.4B", 40, 6144, 48, 256, 1, 1024, 0.43),
    _narayanan("GPT-76.1B", 60, 10240, 80, 1024, 4, 1792, 0.45),
    _narayanan("GPT-310.1B", 96, 16384, 128, 1920, 16, 2160, 0.50),
    _narayanan("GPT-1008B", 128, 25600, 160, 3072, 64, 3072, 0.52),
    _korthikanti("GPT-22B", 48, 6144, 64, 8, 1, 1, 4, 4, 0.415),
    _korthikanti("GPT-3 175B", 96, 12288, 96, 64, 8, 3, 1, 64, 0.514),
    _korthikanti("MT-NLG 530B", 105, 20480, 128, 280, 35, 3, 1, 280, 0.560),
    _korthikanti("GPT-1T", 128, 25600, 160, 512, 64, 1, 1, 512, 0.563),
    _core("GPT-7.1B", 30, 4096, 32, 96, 2, 1, 192, 0.47),
    _core("GPT-32B", 48, 7168, 56, 384, 8, 1, 192, 0.46),
    _core("GPT-119B", 92, 10240, 80, 1536, 8, 4, 768, 0.43),
    _core("GPT-314B", 96, 16384, 128, 3072, 8, 8, 1536, 0.48),
    _mpt("MPT-1B, 8 H100", 24, 2048, 16, "hgx-h100", 8, 14, 112, 45455, "none"),
    _mpt("MPT-70B, 64 H100", 80, 8192, 64, "hgx-h100", 64, 8, 2048, 1039),
    _mpt("MPT-70B, 512 H100", 80, 8192, 64, "hgx-h100", 512, 8, 4096, 1007),
    _mpt("MPT-70B, 64 A100", 80, 8192, 64, "dgx-a100", 64, 8, 2048, 410),
    Case(
        "OPT-175B, 992 GPUs", "OPT (arXiv:2205.01068): 147 TFLOP/s a GPU, unconfirmed",
        lambda: gpt("OPT-175B", 96, 12288, 96, 50272), "dgx-a100", 992, 2048, 992 * 2048, "hfu", 147 / 312,
        open_layouts(micro=(1, 2, 4, 8), tp=8, dp=124), Recipe(zero=3, recompute="full", gradient_bytes=2.0),
        "that the count holds recomputation; micro-batch",
    ),
    Case(
        "Llama-2-70B", "Llama 2 (arXiv:2307.09288), table 2: 1,720,320 GPU-h for 2T tokens",
        lambda: load_model("llama-2-70b"), "dgx-a100", 2048, 4096, 2**22, "tokens", 2e12 / (1_720_320 * 3600),
        (), Recipe(), "2,048 GPUs; the best layout; the published hours hold failures and restarts",
    ),
    _llama_405b(8192, 430),
    _llama_405b(16384, 400),
    Case(
        "Llama-3-70B fp8, 64 GPUs", _BRIDGE, lambda: load_model("llama-3.1-70b"), "hgx-h100", 64, 8192, 256 * 8192,
        "tokens", 1664, open_layouts((5,), (1,), tp=4, pp=8, dp=2), Recipe(precision="fp8", gradient_bytes=2.0),
    ),
    Case(
        "Qwen3-30B-A3B fp8, 16 GPUs", _BRIDGE, lambda: load_model("qwen3-30b-a3b"), "hgx-h100", 16, 4096,
        1024 * 4096, "tokens", 8960, open_layouts(micro=(1,), ep=16, dp=16),
        Recipe(precision="fp8", gradient_bytes=2.0),
    ),
    Case(
        "Qwen3-235B-A22B fp8, 256 GPUs", _BRIDGE, lambda: load_model("qwen3-235b-a22b"), "hgx-h100", 256, 4096,
        8192 * 4096, "tokens", 1712, open_layouts((4,), (1,), tp=2, pp=8, dp=16, ep=32),
        Recipe(precision="fp8", gradient_bytes=2.0),
    ),
    Case(
        "DeepSeek-V3, 2,048 GPUs", "DeepSeek-V3 (arXiv:2412.19437), section 1: 180K H800-h a trillion tokens",
        lambda: load_model("deepseek-v3"), "hgx-h800", 2048, 4096, 15360 * 4096, "tokens",
        1e12 / (180e3 * 3600), open_layouts((1, 2), (1,), pp=16, ep=64, dp=128),
        Recipe(precision="fp8_block", recompute="selective", moment_bytes=4.0, overlap=Overlap(ep=1.0)),
        "DualPipe as 1F1B with all-to-alls beside computation; published hours hold failures",
    ),
)  # fmt: skip


@cache
def predicted(case: Case, slowdown: float = 1.0) -> tuple[float, TrainingStep]:
    """Return the figure that the model predicts, with one slowdown for all jobs, and its step."""
    recipe = case.recipe.model_copy(update={"slowdown": slowdown})
    return replace(case, recipe=recipe).predicted()


def rows() -> Iterator[tuple[Case, float, float, TrainingStep]]:
    """Yield (case, predicted, error as a fraction of the published, step)."""
    for case in CASES:
        figure, step = predicted(case)
        yield case, figure, figure / case.value - 1, step


def llama_405b_run() -> TrainingRun:
    """Return the run of Llama-3.1-405B: 15.6T tokens on 16,384 H100, in the layout of its paper."""
    case = next(case for case in CASES if case.name == "Llama-3.1-405B, 16,384 GPUs")
    cluster = TrainingCluster(node=case.node, num_accelerators=case.num_gpus)
    return Pretraining(
        case.spec(), 15.6e12, cluster, load_site("us-average"), TcoNeocloud(), case.seq_len, case.batch_tokens,
        Recipe(recompute="selective"), case.layouts[-1],
    ).run()  # fmt: skip


def speeds_table() -> list[str]:
    """Return the lines of the table of speeds."""
    lines = [
        "| job | published | as | the law | error | slowed down | left open by the source | source |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case, figure, error, _ in rows():
        slowed = slowed_error(case)
        form = "{:,.0f}" if case.metric == "tokens" else "{:.3f}"
        unit = "tokens/s a GPU" if case.metric == "tokens" else case.metric.upper()
        lines.append(
            f"| {case.name} | {form.format(case.value)} | {unit} | {form.format(figure)} | {error:+.0%} | {slowed:+.0%} | "
            f"{case.assumed or 'nothing'} | {case.source} |"
        )
    return lines


def runs_table() -> list[str]:
    """Return the lines of the table of whole runs."""
    run = llama_405b_run()
    node = run.step.num_accelerators / 8
    it_w = run.energy_j / load_site("us-average").pue.value / run.duration_s / node
    rated = load_node("hgx-h100").max_w
    found = [
        ("Llama-3.1-405B, H100-hours", "30.84M (model card)", f"{run.accelerator_hours / 1e6:.2f}M",
         f"{run.accelerator_hours / 30.84e6 - 1:+.0%}"),
        ("the same, FLOP", "3.8e25 (arXiv:2407.21783, 3.2.1)", f"{run.flops:.2e}", f"{run.flops / 3.8e25 - 1:+.0%}"),
        ("the same, effective training time", "above 90 % (arXiv:2407.21783, 3.3.4)", f"{run.goodput.frac:.1%}",
         "within"),
        ("power of an 8-GPU H100 node over its rating", "76 % typical, 82 % at most (arXiv:2506.14551)",
         f"{it_w / rated:.0%}", "" if 0.76 <= it_w / rated <= 0.82 else f"{it_w / rated / 0.76 - 1:+.0%} of typical"),
    ]  # fmt: skip
    lines = ["| figure | published | predicted | error |", "|---|---|---|---|"]
    return lines + [f"| {' | '.join(row)} |" for row in found]


def slowed_error(case: Case) -> float:
    """Return the error with `PUBLISHED_SLOWDOWN`."""
    return predicted(case, PUBLISHED_SLOWDOWN)[0] / case.value - 1


def summary() -> str:
    """Return the errors in one line."""
    law = [error for _, _, error, _ in rows()]
    slowed = [slowed_error(case) for case in CASES]
    return (
        f"Over the {len(law)} jobs the law's error is {median(law):+.0%} at the median, {min(law):+.0%} to {max(law):+.0%}; "
        f"with `slowdown: {PUBLISHED_SLOWDOWN}` it is {median(slowed):+.0%}, {min(slowed):+.0%} to {max(slowed):+.0%}, "
        f"and {median(map(abs, slowed)):.0%} regardless of sign."
    )


def refresh(text: str) -> str:
    """Return the page with its tables and its sum made anew."""
    parts = {
        r"\| job \|.*?\n\n": speeds_table(),
        r"Over the .*?\n\n": [summary()],
        r"\| figure \|.*?\n\n": runs_table(),
    }
    for pattern, lines in parts.items():
        text = re.sub(pattern, "\n".join(lines).replace("\\", r"\\") + "\n\n", text, count=1, flags=re.S)
    return text


if __name__ == "__main__":
    PAGE.write_text(refresh(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
