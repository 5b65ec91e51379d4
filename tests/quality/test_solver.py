"""A model on a benchmark: anchors are met, more is never worse, bands are honest, and simulated problems agree."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from clustersim import library
from clustersim.errors import InputError
from clustersim.quality.accuracy import draw_solvers, estimate
from clustersim.quality.benchmark import Benchmark, load_benchmark
from clustersim.quality.parallel import vote
from clustersim.quality.parameters import PARAMETERS, Parameters, draw_parameters
from clustersim.quality.solver import MODES, Solver, solver
from clustersim.quality.trained_model import TrainedModel, load_trained_model

AIME = load_benchmark("aime24")
R1 = load_trained_model("deepseek-r1")
ANCHORS = [
    (name, anchor.model.name)
    for name in library.names("benchmarks")
    for anchor in load_benchmark(name).anchors
]


def r1(**parameters: float) -> Solver:
    return solver(R1, AIME, parameters=Parameters(**parameters))


@pytest.mark.parametrize(("benchmark", "model"), ANCHORS)
@pytest.mark.parametrize("mode", MODES)
def test_every_anchor_is_met(benchmark: str, model: str, mode: str) -> None:
    bench = load_benchmark(benchmark)
    anchor = next(each for each in bench.anchors if each.model.name == model)
    found = solver(load_trained_model(model), bench, mode=mode)  # type: ignore[arg-type]
    assert found.mean_accuracy() == pytest.approx(anchor.accuracy.value, abs=1e-12)
    assert found.basis == "model"
    assert found.mean_accuracy(anchor.thinking_tokens.value) == pytest.approx(
        anchor.accuracy.value, abs=1e-12
    )


def test_the_anchor_of_the_reference() -> None:
    assert r1().intercept == pytest.approx(0.97, abs=0.02)
    assert r1().effective_flops == pytest.approx(1.4e24, rel=0.04)


@given(st.floats(100, 1e6), st.floats(1.0, 10.0), st.floats(1e22, 1e30), st.sampled_from(MODES))
def test_more_is_never_worse(tokens: float, factor: float, flops: float, mode: str) -> None:
    s = solver(R1, AIME, mode=mode)  # type: ignore[arg-type]
    base = s.mean_accuracy(tokens, effective_flops=flops)
    assert s.mean_accuracy(tokens * factor, effective_flops=flops) >= base
    assert s.mean_accuracy(tokens, effective_flops=flops * factor) >= base
    assert s.mean_accuracy(tokens, effective_flops=flops, parallel=factor) >= base


def test_ten_times_of_each() -> None:
    def logits(p: object) -> float:
        return float(np.log(p / (1 - p)))  # type: ignore[operator]

    s = r1()
    at = logits(s.mean_accuracy(3000, effective_flops=1e24))
    assert logits(s.mean_accuracy(30000, effective_flops=1e24)) - at == pytest.approx(0.90)
    assert logits(s.mean_accuracy(3000, effective_flops=1e25)) - at == pytest.approx(1.05)
    assert logits(s.mean_accuracy(3000, effective_flops=1e24, parallel=10)) - at == pytest.approx(0.36)
    assert s.mean_accuracy(45_000) == s.mean_accuracy(1e9)  # saturated at 4.5 natural lengths
    assert s.mean_accuracy(0.0) == 0.0


def test_the_two_modes_differ_beyond_the_data() -> None:
    """From Llama 3.1 405B to 2e29 FLOP: +3.9 logits without a wall, +0.55 with one."""
    gains = {}
    for mode in MODES:
        s = solver(R1, AIME, mode=mode)
        start = load_trained_model("llama-3.1-405b-instruct").effective_flops(3.0)
        gains[mode] = float(s.capability(2e29) - s.capability(start))
    assert gains["log_compute"] == pytest.approx(3.9, abs=0.05)
    assert gains["loss_linked"] == pytest.approx(0.55, abs=0.01)


@given(st.floats(0.3, 0.85))
def test_tokens_for_is_the_inverse(accuracy: float) -> None:
    s = r1()
    tokens = s.tokens_for(accuracy)
    assert s.mean_accuracy(tokens) == pytest.approx(accuracy)
    assert s.tokens_for(0.9999) == np.inf
    assert s.tokens_for(1.0) == np.inf


def test_a_million_at_once() -> None:
    tokens, flops = np.meshgrid(np.geomspace(100, 1e5, 1000), np.geomspace(1e23, 1e29, 1000))
    assert r1().mean_accuracy(tokens, effective_flops=flops).shape == (1000, 1000)


# ---- anchored or not --------------------------------------------------------------------------------------------


def stranger(**changes: object) -> TrainedModel:
    data = {
        "name": "mine",
        "family": "mine",
        "reasoning_trained": True,
        "year": 2024,
        "effective_compute": flop(),
    }
    return TrainedModel.model_validate({**data, **changes})


def flop(value: str = "1e25 FLOP") -> dict[str, str]:
    return {
        "value": value,
        "low": value,
        "high": value,
        "evidence": "assumed",
        "source": "mine",
        "date": "2026",
    }


def test_an_unanchored_model_is_refused_or_flagged() -> None:
    with pytest.raises(InputError, match=r'no anchor of mine\'s family "mine"; it has deepseek-v3, gpt-4o'):
        solver(stranger(), AIME)
    guess = estimate(solver(stranger(), AIME, unanchored=True), lambda s: s.mean_accuracy())
    assert not guess.anchored
    assert guess.evidence == "assumed"
    assert "no forecast" in guess.note
    known = estimate(solver(R1, AIME), lambda s: s.mean_accuracy())
    assert known.anchored
    assert guess.high - guess.low > 0.3 > 0.1 > known.high - known.low


def test_a_family_is_preferred_and_its_own_kind() -> None:
    chat = solver(stranger(name="next", family="deepseek-v3", reasoning_trained=False), AIME)
    taught = solver(stranger(name="next", family="deepseek-v3"), AIME)
    assert chat.basis == taught.basis == "family"
    assert chat.natural_tokens == 2500
    assert taught.natural_tokens == pytest.approx((10000 * 9000) ** 0.5)


def test_a_changed_model_may_not_use_the_anchors_name() -> None:
    with pytest.raises(InputError, match="rename it"):
        solver(R1.model_copy(update={"year": 2025}), AIME)


def test_progress_counts_from_2024() -> None:
    later = stranger(year=2026, parameters=flop("1e11"), train_tokens=flop("1e13"), effective_compute=None)
    assert later.effective_flops(3.0) == pytest.approx(9 * later.effective_flops(1.0))
    with pytest.raises(ValueError, match="effective_compute"):
        stranger(parameters=flop("1e11"))


def test_the_band_widens_away_from_the_anchor_and_is_reproducible() -> None:
    s = r1()

    def width(outcome: Callable[[Solver], np.ndarray]) -> np.ndarray:
        found = estimate(s, outcome)
        assert (found.low <= found.mean).all()
        assert (found.mean <= found.high).all()
        return found.high - found.low

    near = width(lambda x: x.mean_accuracy(np.array([10_000.0, 100.0])))
    assert near[1] > near[0]
    assert (
        width(
            lambda x: vote(
                x.mean_accuracy(), 64, x.parameters.heterogeneity, x.parameters.plurality_threshold
            )
        )
        > 0.05
    )
    assert draw_solvers(s, seed=3, num=5) == draw_solvers(s, seed=3, num=5)
    assert draw_solvers(s, seed=3, num=5) != draw_solvers(s, seed=4, num=5)


def test_draws_lie_in_their_ranges_and_what_was_set_is_held() -> None:
    draws = draw_parameters(0, 300, Parameters(heterogeneity=0.77))
    assert {draw.heterogeneity for draw in draws} == {0.77}
    for name, figure in PARAMETERS.items():
        if name != "heterogeneity":
            values = np.array([getattr(draw, name) for draw in draws])
            assert figure.low <= values.min() < values.max() <= figure.high
            mean = (figure.low + figure.value + figure.high) / 3
            assert values.mean() == pytest.approx(mean, abs=4 * (figure.high - figure.low) / 4 / 300**0.5)
    assert set(PARAMETERS) == set(Parameters.model_fields)
    assert draw_parameters(0, 5)[4].moe_exponent == draw_parameters(0, 9)[4].moe_exponent


# ---- single problems --------------------------------------------------------------------------------------------


def test_simulated_problems_have_the_mean_and_the_spread() -> None:
    s = r1()
    problems = s.draw_problems(np.random.default_rng(1), 20_000)
    m, nu = float(s.mean_accuracy()), s.parameters.heterogeneity
    assert stats.kstest(problems.success, stats.beta(nu * m, nu * (1 - m)).cdf).pvalue > 1e-3
    assert np.corrcoef(problems.difficulty, problems.success)[0, 1] < -0.8
    one = s.draw_problem(np.random.default_rng(1))
    assert one.success.shape == ()


@pytest.mark.parametrize("effort", [0.05, 0.5, 1.0, 2.0, 10.0])
def test_success_after_the_tokens_really_used(effort: float) -> None:
    """At every effort the mean over problems is the benchmark's law, and no problem is helped by less thinking."""
    s = r1()
    rng = np.random.default_rng(2)
    problems = s.draw_problems(rng, 20_000)
    natural = s.draw_tokens(rng, problems.difficulty)
    p = s.success_probability(problems.difficulty, effort * natural, natural)
    expected = float(s.mean_accuracy(effort * s.natural_tokens))
    assert p.mean() == pytest.approx(expected, abs=4 * p.std() / 20_000**0.5)
    more = s.success_probability(problems.difficulty, 2 * effort * natural, natural)
    assert (more >= p - 1e-12).all()


def test_thinking_lengths() -> None:
    s = r1()
    rng = np.random.default_rng(3)
    problems = s.draw_problems(rng, 50_000)
    tokens = s.draw_tokens(rng, problems.difficulty)
    assert tokens.mean() == pytest.approx(10_000, rel=0.02)
    assert np.log(tokens).std() == pytest.approx(0.6, rel=0.02)
    hard = problems.difficulty > 0.9
    assert tokens[hard].mean() > 1.5 * tokens[~hard].mean()
    with pytest.raises(ValueError, match=r"thinking_per_difficulty 0\.7 is above the 0\.6"):
        r1(thinking_per_difficulty=0.7).draw_tokens(rng, 0.5)


def test_one_task_at_a_time_is_the_same_law() -> None:
    s = r1()
    success = s.success()
    difficulty = np.linspace(0.01, 0.99, 9)
    assert success.of(difficulty) == pytest.approx(s.success_probability(difficulty, 1.0, 1.0))
    for effort in (0.1, 1.0, 3.0, 9.0):
        assert success.mean(effort) == pytest.approx(float(s.mean_accuracy(effort * s.natural_tokens)))
        assert success.at(0.3, effort) == pytest.approx(float(s.success_probability(0.3, effort, 1.0)))


def test_refused() -> None:
    s = r1()
    with pytest.raises(ValueError, match="thinking_tokens must be 0 or more"):
        s.mean_accuracy(-1)
    with pytest.raises(ValueError, match="effective_flops must be above 0"):
        s.mean_accuracy(effective_flops=0)
    with pytest.raises(ValueError, match="parallel must be 1 or more"):
        s.mean_accuracy(parallel=0.5)
    with pytest.raises(ValueError, match="natural_tokens must be above 0"):
        solver(R1, AIME, natural_tokens=0)
    with pytest.raises(ValueError, match="difficulty must be between 0 and 1"):
        s.success_probability(2.0, 1.0, 1.0)
    with pytest.raises(InputError, match=r'no benchmark "aime2"\. Did you mean "aime25" or "aime24"'):
        load_benchmark("aime2")


def test_benchmarks_hold_together() -> None:
    data = AIME.model_dump(mode="json")
    assert Benchmark.model_validate(data) == AIME
    twice = {**data, "anchors": [data["anchors"][0]] * 2}
    with pytest.raises(ValueError, match="one anchor a model"):
        Benchmark.model_validate(twice)
    with pytest.raises(ValueError, match="must lie between floor and cap"):
        Benchmark.model_validate({**data, "floor": {**data["floor"], "value": 0.2, "high": 0.5}})
    with pytest.raises(ValueError, match='no trained_model "r1"'):
        Benchmark.model_validate({**data, "anchors": [{**data["anchors"][0], "model": "r1"}]})


@pytest.mark.parametrize("shelf", ["benchmarks", "trained_models"])
def test_every_figure_says_its_source(shelf: str) -> None:
    load = {"benchmarks": load_benchmark, "trained_models": load_trained_model}[shelf]
    for name in library.names(shelf):
        value = load(name)
        assert type(value).model_validate_json(value.model_dump_json()) == value
        text = str(value.model_dump())
        assert "'source': ''" not in text
        assert "'date': ''" not in text
