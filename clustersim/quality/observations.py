"""Published points that the model is checked against: what was seen, and where."""

from __future__ import annotations

O1_MINI = "hughbzhang/o1_inference_scaling_laws@4cf12c6 helpers/results_log_majority_vote.json, 30 problems: ±9 points"
#: (mean thinking tokens, accuracy) of o1-mini on AIME 2024, single samples.
O1_MINI_SINGLE = (
    (363, 0.20), (420, 0.267), (471, 0.20), (1106, 0.433), (2194, 0.367), (5355, 0.40), (8668, 0.60), (11104, 0.533),
)  # fmt: skip
#: (samples, accuracy) of votes that start from 0.533; the samples are known roughly.
O1_MINI_VOTES = ((4, 0.675), (8, 0.70))

_R1 = "deepseek-ai/DeepSeek-R1@00f3296 README"
_OPENAI = "openai.com/index/learning-to-reason-with-llms"
#: AIME 2024: (model, accuracy of one sample, of a vote among 64, whether the parameters were chosen on it, source).
VOTES_OF_64 = (
    ("o1", 0.744, 0.833, True, _OPENAI),
    ("o1-preview", 0.446, 0.567, True, _OPENAI),
    ("R1-Zero", 0.710, 0.867, True, "arXiv:2501.12948"),
    ("GPT-4o", 0.093, 0.134, False, _R1),
    ("Claude 3.5 Sonnet", 0.160, 0.267, False, _R1),
    ("R1-Distill-Qwen-1.5B", 0.289, 0.527, False, _R1),
    ("QwQ-32B-Preview", 0.440, 0.600, False, _R1),
    ("R1-Distill-Llama-8B", 0.504, 0.800, False, _R1),
    ("R1-Distill-Qwen-7B", 0.555, 0.833, False, _R1),
    ("o1-mini", 0.636, 0.800, False, _R1),
    ("R1-Distill-Qwen-14B", 0.697, 0.800, False, _R1),
    ("R1-Distill-Llama-70B", 0.700, 0.867, False, _R1),
    ("R1-Distill-Qwen-32B", 0.726, 0.833, False, _R1),
)

#: o3 on ARC-AGI-1 (semi-private): accuracy at 6 and at 1,024 samples.
ARC_O3, ARC_O3_SOURCE = ((6, 0.757), (1024, 0.875)), "arcprize.org/blog/oai-o3-pub-breakthrough"
#: (what, accuracy of one sample, samples, coverage, whether parameters were chosen on it, source).
COVERAGES = (
    ("SWE-bench Lite, DeepSeek-Coder-V2", 0.159, 250, 0.56, True, "Large Language Monkeys, arXiv:2407.21787"),
    ("SWE-bench Verified, CodeMonkeys", 0.46, 10, 0.70, False, "arXiv:2501.14723, roughly"),
)
#: Logits a tenfold of parallel samples: (what, observed, whether the discount was chosen on it, source).
PARALLEL_SLOPES = (
    ("o3 on ARC-AGI-1, 6 to 1,024 samples", 0.36, True, ARC_O3_SOURCE),
    ("o1 on AIME 2024, vote of 64", 0.30, False, _OPENAI),
    ("o1 on AIME 2024, 1,000 samples ranked", 0.51, False, _OPENAI),
    ("R1-Zero on AIME 2024, vote of 64", 0.54, False, "arXiv:2501.12948"),
)
#: Llama 3.1 405B Instruct on AIME 2024.
LLAMA_405B, LLAMA_405B_SOURCE = 0.233, "deepseek-ai/DeepSeek-V3@06dbd30 README"
#: Training tokens that Llama 3's own law gives for 3.8e25 FLOP.
LLAMA_TOKENS, LLAMA_TOKENS_SOURCE = 16.55e12, "Llama 3 report, arXiv:2407.21783; 0.299 C**0.537"
