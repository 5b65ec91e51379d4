"""Speculative decoding: what drafting and verifying cost, what they give, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim import simulate
from clustersim.cost.account import account
from clustersim.cost.phases import phases, step_s
from clustersim.cost.speculation.ngram import NGram
from clustersim.cost.step_time import StepTime
from clustersim.errors import InputError
from clustersim.models.step import StepShape
from clustersim.scenario.plan import DeploymentPlan, plan

SEVENTY = {"model": "llama-3.1-70b", "parallelism": {"tp": 8}}
DRAFTS: dict[str, dict[str, Any]] = {
    "draft_model": {"kind": "draft_model", "model": "llama-3.1-8b", "tp": 8},
    "eagle": {"kind": "eagle", "input_states": 3, "draft_vocab_size": 32000},
    "mtp": {"kind": "mtp"},
    "ngram": {"kind": "ngram"},
}
kinds = st.sampled_from(sorted(DRAFTS))


def made(speculation: dict[str, Any] | None = None, **deployment: Any) -> DeploymentPlan:
    return plan(toy.scenario(deployment={**SEVENTY, "speculation": speculation, **deployment}))[0]


PLAIN = made()


def drafting(kind: str, k: int = 4, acceptance: object = 0.8, **deployment: Any) -> DeploymentPlan:
    return made({**DRAFTS[kind], "num_draft_tokens": k, "acceptance": acceptance}, **deployment)


def gain(each: DeploymentPlan, batch: int, context: int = 2000) -> float:
    seconds = [one.step_time.decode(batch).at(batch * context) for one in (PLAIN, each)]
    return seconds[0] / seconds[1]


# ---- what is expected of drafts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "acceptance", "tokens"),
    [(0, 0.9, 1.0), (1, 0.85, 1.85), (3, [0.9, 0.8, 0.5], 1 + 0.9 + 0.72 + 0.36), (4, 0.0, 1.0), (7, 1.0, 8.0),
     (4, 0.8, (1 - 0.8**5) / (1 - 0.8))],
)  # fmt: skip
def test_tokens_of_a_step(k: int, acceptance: object, tokens: float) -> None:
    """With one acceptance for all, the geometric sum of Leviathan et al., equation 1."""
    speculation = NGram(num_draft_tokens=k, acceptance=acceptance)  # type: ignore[arg-type]
    assert speculation.tokens_per_step == pytest.approx(tokens, rel=1e-12)


def test_the_expectation_is_that_of_drafts_drawn_one_by_one() -> None:
    rng = np.random.default_rng(0)
    accepted = rng.random((200_000, 3)) < [0.9, 0.7, 0.4]
    drawn = 1 + np.cumprod(accepted, axis=1).sum(axis=1)
    speculation = NGram(num_draft_tokens=3, acceptance=[0.9, 0.7, 0.4])  # type: ignore[arg-type]
    assert speculation.tokens_per_step == pytest.approx(drawn.mean(), rel=0.01)


# ---- a step that verifies ----------------------------------------------------------------------------------------


def test_verifying_reads_the_cache_once_and_multiplies_for_every_query() -> None:
    one, five = (
        {op.name: op for op in PLAIN.cost.ops(StepShape.decode(8, 10_000, queries))} for queries in (1, 5)
    )
    attention = one["attention_decode"], five["attention_decode"]
    assert attention[1].flops == pytest.approx(5 * attention[0].flops, rel=1e-3)
    assert attention[1].bytes == pytest.approx(attention[0].bytes, rel=1e-2)
    assert attention[1].bytes > attention[0].bytes
    for name in ("qkv_proj", "o_proj", "mlp_up", "lm_head"):
        assert five[name].flops == 5 * one[name].flops
    assert five["sampling"].bytes == 5 * one["sampling"].bytes


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt-oss-120b", "deepseek-v2-lite"])
def test_queries_of_one_sequence_are_the_pairs_of_a_short_prompt(model: str) -> None:
    """Verifying q tokens over a context multiplies as many pairs as prefilling them would."""
    cost = made(model=model, parallelism={}).cost
    context, queries = 100, 4
    (decode, *_) = [op for op in cost.ops(StepShape.decode(1, context, queries)) if op.varies == "decode"
                    and "attention" in op.name and "window" not in op.name]  # fmt: skip
    (single, *_) = [op for op in cost.ops(StepShape.decode(1, 1)) if op.name == decode.name]
    pairs = sum(context + i for i in range(queries))
    assert float(decode.flops) == pytest.approx(pairs * float(single.flops))


def test_the_host_is_paid_once_a_sequence() -> None:
    engine = {"base": "vllm-0.12", "sequence_overhead": "20 us"}
    cost = made(serving_engine=engine).cost
    assert not cost.engine.overlapped
    host = [
        float(cost.step_s(shape, True) - cost.device_s(shape, True))
        for shape in (StepShape.decode(64, 100), StepShape.decode(64, 100, queries=5))
    ]
    assert host[1] == pytest.approx(host[0])
    assert host[0] == pytest.approx(cost.engine.step_overhead_s.value + 64 * 20e-6)


def test_steps_that_verify_are_graphs_too() -> None:
    each = drafting("mtp")
    made_of = phases(each.cost, StepShape.decode(128, 1000))
    assert [phase.name for phase in made_of] == ["draft", "draft", "target"]
    assert [phase.count for phase in made_of] == [1, 3, 1]
    assert all(phase.cost.uses_graph(phase.shape) for phase in made_of)


# ---- what it does to the time of a token -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DRAFTS)
def test_no_drafts_are_no_speculation(kind: str) -> None:
    none = drafting(kind, k=0)
    for batch in (1, 7, 100):
        assert none.step_time.decode(batch).values == PLAIN.step_time.decode(batch).values
        numbers = (batch, batch * 500, 700, 700 * 350, 700, 2, 400)
        assert none.step_time.mixed(*numbers) == PLAIN.step_time.mixed(*numbers)
    assert none.memory.rows() == PLAIN.memory.rows()
    assert none.memory.kv_tokens == PLAIN.memory.kv_tokens


@settings(max_examples=30, deadline=None)
@given(kinds, st.integers(1, 6), st.integers(1, 300), st.integers(1, 8000))
def test_drafts_that_are_never_accepted_only_cost(kind: str, k: int, batch: int, context: int) -> None:
    assert gain(drafting(kind, k, acceptance=0.0), batch, context) < 1


@settings(max_examples=40, deadline=None)
@given(kinds, st.integers(1, 6), st.floats(0, 1), st.floats(0, 1), st.integers(1, 300), st.integers(1, 8000))
def test_more_acceptance_is_never_slower(
    kind: str, k: int, one: float, other: float, batch: int, context: int
) -> None:
    less, more = (drafting(kind, k, acceptance=p).step_time for p in sorted((one, other)))
    assert more.decode(batch).at(batch * context) <= less.decode(batch).at(batch * context) * (1 + 1e-12)
    numbers = (batch, batch * context, 3000, 3000 * 1500, 3000, 2, 1500)
    assert more.mixed(*numbers) <= less.mixed(*numbers) * (1 + 1e-12)


@pytest.mark.parametrize("kind", DRAFTS)
def test_it_gains_with_few_sequences_and_loses_with_many(kind: str) -> None:
    """Few: weights are read once for several tokens. Many: arithmetic binds, and what is rejected is lost."""
    each = drafting(kind)
    assert all(gain(each, batch) > 1.5 for batch in (1, 2, 4, 8))
    assert gain(each, 2048) < 1
    assert gain(each, 8) < each.deployment.speculation.tokens_per_step


@settings(max_examples=60, deadline=None)
@given(kinds, st.integers(1, 5), st.integers(1, 500), st.integers(1, 30_000))
def test_the_table_is_the_phases_within_two_percent(kind: str, k: int, batch: int, context: int) -> None:
    each = drafting(kind, k)
    shape = StepShape.decode(batch, context)
    device_s = np.asarray(sum(phase.device_s for phase in phases(each.cost, shape)))
    exact = float(step_s(each.cost, shape, device_s)) / each.step_time.tokens_per_step
    assert each.step_time.decode(batch).at(batch * context) == pytest.approx(exact, rel=0.02)


@settings(max_examples=60, deadline=None)
@given(kinds, st.integers(1, 5), st.integers(0, 300), st.integers(1, 20_000), st.integers(1, 8000))
def test_a_step_with_prefill(kind: str, k: int, batch: int, context: int, chunk: int) -> None:
    """In full what is not accepted for sure, less the further tokens' own time, never below the prefill alone."""
    numbers = (batch, batch * context, chunk, chunk * (chunk + 1) // 2, chunk, 1, chunk)
    each = drafting(kind, k)
    shape = StepShape(*numbers)
    device_s = np.asarray(sum(phase.device_s for phase in phases(each.cost, shape)))
    exact = float(step_s(each.cost, shape, device_s))
    never = drafting(kind, k, acceptance=0.0).step_time
    assert never.mixed(*numbers) == pytest.approx(exact, rel=0.02)
    seconds, alone = each.step_time.mixed(*numbers), each.step_time.mixed(0, 0, *numbers[2:])
    assert alone <= seconds <= never.mixed(*numbers)
    if batch:
        further = each.step_time.tokens_per_step - 1
        credit = further * each.step_time.decode(batch).at(batch * context)
        assert seconds == pytest.approx(max(alone, never.mixed(*numbers) - credit))


def test_a_draft_prefills_too() -> None:
    numbers = (0, 0, 2000, 2000 * 1000, 2000, 1, 2000)
    plain = PLAIN.step_time.mixed(*numbers)
    assert drafting("ngram").step_time.mixed(*numbers) == plain
    assert plain < drafting("mtp").step_time.mixed(*numbers) < 1.05 * plain
    assert 1.05 * plain < drafting("draft_model").step_time.mixed(*numbers) < 1.3 * plain


def test_lookups_wait_for_the_device() -> None:
    slow, fast = (
        made({"kind": "ngram", "num_draft_tokens": 3, "acceptance": 0.5, "lookup": f"{us} us"}).step_time
        for us in (120, 20)
    )
    more = (slow.decode(40).at(40_000) - fast.decode(40).at(40_000)) * slow.tokens_per_step
    assert more == pytest.approx(40 * 100e-6)


def test_deepseek_v3_gains_what_its_report_says() -> None:
    """arXiv:2412.19437, 5.4.3: 85 to 90 % accepted, 1.8 times the tokens per second, at no said batch: below E here."""
    wide = {"model": "deepseek-v3", "parallelism": {"ep": 32, "attention_dp": 32}}
    plain, low, high = (
        made(speculation, **wide).step_time.decode(64).at(64 * 4000)
        for speculation in (None, {"kind": "mtp", "acceptance": 0.85}, {"kind": "mtp", "acceptance": 0.9})
    )
    assert 1.4 < plain / low < plain / high < 1.9


# ---- memory ------------------------------------------------------------------------------------------------------


def test_a_draft_takes_memory() -> None:
    each = drafting("draft_model").memory
    alone = made(model="llama-3.1-8b").memory
    assert each.draft_weights_bytes == pytest.approx(alone.weights_bytes)
    assert each.kv_bytes_per_token == PLAIN.memory.kv_bytes_per_token + alone.kv_bytes_per_token
    assert sum(size for _, size in each.rows()) == pytest.approx(each.capacity_bytes)
    assert each.kv_tokens < PLAIN.memory.kv_tokens


def test_a_module_of_deepseek_v3_weighs_what_was_published() -> None:
    """14 B parameters with embedding and head, 11.5 B without (deepseek-ai/DeepSeek-V3, README_WEIGHTS.md)."""
    memory = made({"kind": "mtp", "acceptance": 0.85}, model="deepseek-v3",
                  parallelism={"ep": 32, "attention_dp": 32}).memory  # fmt: skip
    assert memory.draft is not None
    assert memory.draft.spec.num_parameters == pytest.approx(11.5e9 + 2 * 129280 * 7168, rel=0.02)
    assert memory.kv_bytes_per_token == pytest.approx(62 / 61 * 61 * 576 * 2)


def test_a_head_of_its_own_is_held_and_the_models_is_not() -> None:
    shared = made({"kind": "eagle", "num_draft_tokens": 3, "acceptance": 0.7}).memory
    own = made({"kind": "eagle", "num_draft_tokens": 3, "acceptance": 0.7, "draft_vocab_size": 32000}).memory
    assert own.draft_weights_bytes - shared.draft_weights_bytes == pytest.approx(32000 * 8192 * 2 / 8)


# ---- runs --------------------------------------------------------------------------------------------------------


def run(speculation: dict[str, Any] | None, **changes: Any) -> Any:
    return simulate(toy.scenario(deployment={**SEVENTY, "speculation": speculation}, **changes))


def test_the_account_adds_up_and_says_who_drafted() -> None:
    result = run({**DRAFTS["draft_model"], "num_draft_tokens": 3, "acceptance": 0.7})
    for values in (result["time_by_operator"], result["time_by_evidence"]):
        assert sum(values.values()) == pytest.approx(1)
    plans, served = result.plans[0], result.served[0]
    spent = account(plans.cost, served.runs)
    assert sum(spent.phases.values()) == pytest.approx(1)
    drafts = sum(share for name, share in spent.operators.items() if name.startswith("draft_"))
    assert drafts == pytest.approx(spent.phases["draft"])
    assert 0.1 < drafts < 0.7
    assert np.allclose(sum(spent.parts.values()), 1)
    assert (spent.compute_use <= 1).all()
    assert (spent.memory_use <= 1).all()


def test_no_drafts_no_phase_of_drafting() -> None:
    result = run(None)
    assert set(account(result.plans[0].cost, result.served[0].runs).phases) == {"target", "host"}
    assert not [name for name in result["time_by_operator"] if name.startswith("draft_")]


def test_a_run_without_drafts_is_the_plain_run() -> None:
    none, plain = run({**DRAFTS["mtp"], "num_draft_tokens": 0, "acceptance": 0.5}), run(None)
    assert none.requests.equals(plain.requests)
    assert none["settings_without_effect"] == ["deployments.serve.speculation: num_draft_tokens is 0"]


def test_runs_and_steps_agree() -> None:
    speculation = {**DRAFTS["eagle"], "num_draft_tokens": 3, "acceptance": [0.8, 0.6, 0.5]}
    runs, steps = (run(speculation, engine={"mode": mode}) for mode in ("runs", "stepwise"))
    for name in ("first_token_s", "first_answer_s", "finish_s"):
        assert np.allclose(runs.requests[name], steps.requests[name], rtol=1e-9, atol=0, equal_nan=True)


def test_one_user_gets_tokens_faster_by_the_gain() -> None:
    quiet = {"arrivals": {"kind": "deterministic", "rate": "0.05 req/s"}, "num_requests": 5}
    fast, plain = (run(each, workload=quiet) for each in ({**DRAFTS["mtp"], "num_draft_tokens": 4,
                                                            "acceptance": 0.8}, None))  # fmt: skip
    ratio = plain["median_tpot_ms"] / fast["median_tpot_ms"]
    assert ratio == pytest.approx(gain(drafting("mtp"), 1, 600), rel=0.02)


# ---- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speculation", "deployment", "why"),
    [({"kind": "mtp", "acceptance": 1.2}, {}, "probability from 0 to 1"),
     ({"kind": "mtp", "acceptance": "high"}, {}, "probability from 0 to 1"),
     ({"kind": "mtp", "acceptance": [True]}, {}, "probability from 0 to 1"),
     ({"kind": "ngram", "num_draft_tokens": 3, "acceptance": [0.5]}, {}, "1 probabilities for 3 draft tokens"),
     ({"kind": "ngram", "num_draft_tokens": -1, "acceptance": 0.5}, {}, "greater than or equal to 0"),
     ({"kind": "medusa", "acceptance": 0.5}, {}, "mtp"),
     ({"kind": "mtp"}, {}, "acceptance")],
)  # fmt: skip
def test_a_speculation_that_is_none(
    speculation: dict[str, Any], deployment: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        made(speculation, **deployment)


@pytest.mark.parametrize(
    ("speculation", "deployment", "why"),
    [({"kind": "mtp", "acceptance": 0.8}, {"parallelism": {"tp": 4, "pp": 2}}, "pipeline"),
     ({"kind": "draft_model", "model": "qwen3-0.6b", "num_draft_tokens": 2, "acceptance": 0.5}, {}, "vocabulary"),
     ({"kind": "draft_model", "model": "llama-3.1-8b", "num_draft_tokens": 2, "acceptance": 0.5, "tp": 3}, {},
      "tp 3 of the draft does not divide tp 8"),
     ({"kind": "eagle", "num_draft_tokens": 2, "acceptance": 0.5},
      {"model": "gpt-oss-120b", "parallelism": {"tp": 2}}, "intermediate_size")],
)  # fmt: skip
def test_a_draft_that_does_not_fit_its_model(
    speculation: dict[str, Any], deployment: dict[str, Any], why: str
) -> None:
    with pytest.raises(InputError, match=rf"deployments\.0\.speculation.*{why}"):
        made(speculation, **deployment)


def test_ngram_drafts_for_a_pipeline() -> None:
    each = drafting("ngram", parallelism={"tp": 4, "pp": 2})
    plain = made(parallelism={"tp": 4, "pp": 2})
    assert each.step_time.decode(2).at(4000) < plain.step_time.decode(2).at(4000) / 1.5


def test_step_times_need_nothing_but_the_cost_model() -> None:
    each = drafting("eagle")
    assert StepTime(each.cost, 1000).decode(3).at(1500) == pytest.approx(
        each.step_time.decode(3).at(1500), rel=0.02
    )
