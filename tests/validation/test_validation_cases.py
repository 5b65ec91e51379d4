"""A row as a scenario: each kind of load, layouts, formats, and the rules (data) that map names."""

from __future__ import annotations

import pytest
from measured import DISAGGREGATED, row

from clustersim import library
from clustersim.hardware.node import load_node
from clustersim.models.hf_config import load_model
from clustersim.models.precision import FORMATS, Precision
from clustersim.models.spec import ModelSpec
from clustersim.study.validation.case import case_of
from clustersim.study.validation.layout import layout_of
from clustersim.study.validation.loads import load_of
from clustersim.study.validation.mapping import NameRule, ServingRules, first, load_rules
from clustersim.study.validation.rows import RefusedError

MOE = load_model("qwen3-30b-a3b")
DENSE = load_model("qwen3-8b")


@pytest.fixture(scope="module")
def rules() -> ServingRules:
    return load_rules()


# ---- rules are data, and the data is right -------------------------------------------------------------------------


def test_every_rule_names_what_the_library_has(rules: ServingRules) -> None:
    for rule in rules.nodes:
        assert load_node(rule.use).name == rule.use
    for rule in rules.models:
        assert rule.refuse or rule.use in rules.own_models or rule.use in library.names("models"), rule
    for rule in rules.engines:
        assert rule.use in library.names("engines")
    for form in rules.formats:
        Precision.model_validate({**form.use, "kv_cache": "fp8"})
    assert {rule.use for rule in rules.kv_cache} <= set(FORMATS)


def test_models_written_out_have_their_published_size(rules: ServingRules) -> None:
    billions = {"bloom-176b": 176.2, "gpt-j-6b": 6.05, "mistral-7b": 7.24}
    assert set(rules.own_models) == set(billions)
    for name, size in billions.items():
        assert rules.own_models[name].num_parameters / 1e9 == pytest.approx(size, rel=0.005)


def test_the_first_rule_that_fits_is_taken(rules: ServingRules) -> None:
    def engine(name: str, version: str) -> str:
        found = first(rules.engines, row(engine=name, engine_version=version))
        assert found is not None
        return found.use

    assert engine("vllm", "0.12.0") == engine("vllm", "0.9.1") == "vllm-0.12"
    assert engine("vllm", "0.14.0") == engine("vllm", "0.19.0") == engine("vllm", "not recorded") == "vllm-v1"
    assert engine("tensorrt-llm", "0.9.0") == "tensorrt-llm-0.9"
    assert engine("tensorrt-llm", "0.14.0") == engine("tensorrt-llm", "1.0") == "tensorrt-llm"
    assert engine("tensorrt-llm", "1.0.0rc3") == "tensorrt-llm-1.0"
    assert first(rules.engines, row(engine="llama.cpp")) is None


def test_a_rule_about_no_column_is_refused() -> None:
    with pytest.raises(ValueError, match=r'no column "gpus".*Did you mean "gpu"'):
        NameRule.model_validate({"where": {"gpus": "H100*"}, "use": "hgx-h100"})
    with pytest.raises(ValueError, match="either what to use or why to refuse"):
        NameRule.model_validate({"where": {"gpu": "H100*"}})


# ---- machine, model, engine, formats -------------------------------------------------------------------------------


def test_a_row_becomes_its_own_scenario(rules: ServingRules) -> None:
    case = case_of(
        row(tp="2", gpu="H200-SXM-141GB", model="Llama-3.3-70B", precision="fp8", kv_precision="fp8"), rules
    )
    [deployment] = case.scenario.deployments
    [cluster] = case.scenario.fleet[0].clusters
    assert cluster.node.name == "hgx-h200"
    assert cluster.count == 1
    assert (deployment.model.name, deployment.parallelism.tp) == ("llama-3.1-70b", 2)
    assert (deployment.formats.weights, deployment.formats.kv_cache) == ("fp8", "fp8")
    assert deployment.serving_engine.name == "vllm-v1"
    assert deployment.profile is None  # the best there is, as in any run
    assert case.assumes == ()


def test_names_of_the_library_stand_for_themselves(rules: ServingRules) -> None:
    case = case_of(row(gpu="dgx-b200", model="Qwen/Qwen3-0.6B", engine="ideal"), rules)
    [deployment] = case.scenario.deployments
    assert deployment.model.name == "qwen3-0.6b"
    assert deployment.serving_engine.name == "ideal"
    assert case.scenario.fleet[0].clusters[0].node.name == "dgx-b200"


def test_another_engine_can_be_put_in_its_place(rules: ServingRules) -> None:
    [deployment] = case_of(row(), rules, engine="ideal").scenario.deployments
    assert deployment.serving_engine.name == "ideal"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"precision": "bf16?", "kv_precision": ""}, ("bf16", "bf16", "linear")),
        ({"precision": "fp8", "kv_precision": ""}, ("fp8", "fp8", "linear")),
        ({"precision": "fp8", "kv_precision": "auto"}, ("fp8", "bf16", "linear")),
        ({"precision": "fp16", "kv_precision": ""}, ("fp16", "fp16", "linear")),
        ({"precision": "fp8", "kv_precision": "", "notes": "x; gemm=fp8_block y"}, ("fp8_block", "fp8", "linear")),
        ({"model": "gpt-oss-20b", "precision": "fp4", "kv_precision": ""}, ("mxfp4", "bf16", "experts")),
        ({"model": "gpt-oss-20b", "precision": "fp4", "kv_precision": "", "gpu": "B200-180GB"}, ("mxfp4", "fp8", "experts")),
        ({"model": "Qwen3-32B-NVFP4", "precision": "nvfp4", "kv_precision": "", "gpu": "B200-180GB"}, ("nvfp4", "fp8", "linear")),
        ({"model": "Kimi-K2.5", "precision": "int4", "kv_precision": "", "tp": "8", "gpu": "H200-SXM-141GB"}, ("int4_group32", "bf16", "experts")),
    ],
)  # fmt: skip
def test_formats(changes: dict[str, str], expected: tuple[str, ...], rules: ServingRules) -> None:
    form = case_of(row(**changes), rules).scenario.deployments[0].formats
    assert (form.weights, form.kv_cache, form.scope) == expected


def test_what_is_filled_in_is_said(rules: ServingRules) -> None:
    assert case_of(row(precision="fp8", kv_precision=""), rules).assumes == (
        "fp8 and fp4 checkpoints: an fp8 cache",
    )
    longer = case_of(row(model="Llama-2-7B", isl="8192", osl="128"), rules)
    assert longer.scenario.deployments[0].model.max_context == 8320
    assert "longer than the model" in longer.assumes[0]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gpu": "MI999X"}, 'gpu "MI999X" is not known: clustersim list nodes'),
        ({"model": "Llama-9"}, 'model "Llama-9" is not known: clustersim list models'),
        ({"model": "Qwen3.5-397B-A17B"}, "Qwen3.5: gated linear attention"),
        ({"engine": "llama.cpp"}, 'engine "llama.cpp" is not known: clustersim list engines'),
        ({"precision": "ternary"}, 'precision "ternary" is not known'),
        ({"tp": ""}, "tp is empty, not a number"),
        ({"tp": "3.5"}, 'tp is "3.5", not a number'),
        ({"load_kind": "sometimes"}, 'no load "sometimes"'),
        ({"load_value": ""}, "load_value is empty, not a number"),
        ({"isl": "ShareGPT"}, 'isl is "ShareGPT", not a number'),
        ({"load_kind": "arrival_trace"}, "isl of a trace gives no mean"),
        ({"tp": "P/D"}, "the notes do not say on which"),
    ],
)
def test_a_row_that_cannot_be_simulated_is_refused(
    changes: dict[str, str], says: str, rules: ServingRules
) -> None:
    with pytest.raises(RefusedError) as refused:
        case_of(row(**changes), rules)
    assert says in str(refused.value)


# ---- loads ---------------------------------------------------------------------------------------------------------


def test_a_static_batch_starts_together(rules: ServingRules) -> None:
    load = load_of(row(load_kind="static_batch", load_value="16"), rules)
    assert load.workload["arrivals"] == {"kind": "all_at_once"}
    assert load.workload["num_requests"] == 16
    assert load.scheduler == {"kind": "static_batch", "max_num_seqs": 16}


def test_a_closed_loop_runs_ten_requests_a_user(rules: ServingRules) -> None:
    for users, requests in ((1, 40), (64, 640)):
        load = load_of(row(load_value=str(users)), rules)
        assert load.workload["arrivals"] == {"kind": "closed_loop", "concurrency": users}
        assert load.workload["num_requests"] == requests
    assert load_of(row(load_value="2000"), rules).scheduler["max_num_seqs"] == 2000


def test_an_offline_run_admits_what_fits_to_its_end(rules: ServingRules) -> None:
    changes = {
        "load_kind": "offline_all_at_once",
        "load_value": "3000",
        "engine": "tensorrt-llm",
        "osl": "512",
    }
    short = case_of(row(**changes), rules).scenario
    long = case_of(row(**{**changes, "isl": "8192"}), rules).scenario
    assert short.workloads[0].num_requests == 3000
    assert short.deployments[0].scheduler.max_num_seqs > 4 * long.deployments[0].scheduler.max_num_seqs
    with pytest.raises(RefusedError, match="does not fit"):
        case_of(row(**{**changes, "model": "Llama-3.1-405B"}), rules)


def test_lengths_are_what_the_notes_say(rules: ServingRules) -> None:
    nominal = load_of(row(isl="1000", osl="500"), rules)
    assert nominal.workload["lengths"] == {"kind": "fixed", "input": 1000, "answer": 500}
    spread = load_of(row(isl="1000", osl="500", notes="lengths uniform in [0.8,1.0]x nominal"), rules)
    assert spread.workload["lengths"]["input"] == {"kind": "uniform", "low": 800, "high": 1000}
    assert (spread.mean_input_tokens, spread.mean_output_tokens) == (900, 450)


def test_a_trace_keeps_its_means_and_rate(rules: ServingRules) -> None:
    case = case_of(
        row(load_kind="arrival_trace", isl="trace(mean 857)", osl="trace(mean 653)", quality="A",
            load_value="300 req, ShareGPT at 10 req/s, per-request arrivals in file",
            notes="max_num_seqs=256 max_num_batched_tokens=2048; num_gpu_blocks=2588"), rules,
    )  # fmt: skip
    [workload] = case.scenario.workloads
    assert workload.num_requests == 300
    assert workload.arrivals is not None
    assert workload.arrivals.model_dump()["rate"] == "10 req/s"
    assert workload.lengths.input.expectation() == pytest.approx(857, rel=0.02)  # type: ignore[union-attr]
    assert workload.lengths.answer.expectation() == pytest.approx(653, rel=0.02)  # type: ignore[union-attr]
    [deployment] = case.scenario.deployments
    assert deployment.scheduler.max_num_seqs == 256
    assert "Poisson" in case.assumes[0]


# ---- layouts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "changes", "expected"),
    [
        (DENSE, {"tp": "4"}, {"tp": 4, "pp": 1, "attention_dp": 1}),
        (DENSE, {"tp": "4", "ep": "", "dp": ""}, {"tp": 4, "pp": 1, "attention_dp": 1}),
        (MOE, {"tp": "8", "ep": "8"}, {"tp": 8, "pp": 1, "ep": 8, "attention_dp": 1}),
        (MOE, {"tp": "1", "ep": "1", "dp": "4"}, {"tp": 1, "pp": 1, "ep": 4, "attention_dp": 4}),
        (MOE, {"tp": "8", "ep": "", "dp": ""}, {"ep": 8, "attention_dp": 8, "pp": 1}),
    ],
)
def test_layouts(model: ModelSpec, changes: dict[str, str], expected: dict[str, int]) -> None:
    layout = layout_of(row(**changes), model)
    assert dict(layout.decode.parallelism) == expected
    assert bool(layout.assumes) == (changes.get("ep") == "" and model is MOE)


def test_pools_that_prefill_and_decode_are_read_from_the_notes(rules: ServingRules) -> None:
    apart = row(
        tp="P/D", pp="1", ep="P/D", dp="P/D", num_gpus="4", notes=DISAGGREGATED, model="Qwen3-30B-A3B"
    )
    layout = layout_of(apart, MOE)
    assert layout.prefill is not None
    assert (layout.prefill.replicas, layout.num_accelerators) == (2, 4)
    assert dict(layout.decode.parallelism) == {"attention_dp": 2, "ep": 2}
    decode, prefill = case_of(apart, rules).scenario.deployments
    assert decode.prefill_by == prefill.name
    assert prefill.replicas == 2


def test_nodes_are_as_many_as_the_layout_needs(rules: ServingRules) -> None:
    for pp, count in (("1", 1), ("2", 2)):
        case = case_of(row(model="Llama-3.1-405B", tp="8", pp=pp, precision="fp8", kv_precision="fp8"), rules)
        assert case.scenario.fleet[0].clusters[0].count == count
