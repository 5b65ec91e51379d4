from typing import Annotated

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from clustersim.errors import InputError
from clustersim.kinds import OneOf, kinds
from clustersim.randomness import stream
from clustersim.workload.distributions import AnyDistribution
from clustersim.workload.lengths import RequestLengths, SampledLengths

DISTRIBUTION = TypeAdapter(AnyDistribution)
LENGTHS = TypeAdapter(Annotated[RequestLengths, OneOf("lengths")])
EXAMPLES = [(family, example) for family in ("distribution", "lengths") for part in kinds(family).values()
            for example in part.examples]  # fmt: skip


def distribution(**settings):
    return DISTRIBUTION.validate_python(settings)


def rng(seed=3):
    return stream(seed, "lengths")


@pytest.mark.parametrize(("family", "example"), EXAMPLES)
def test_every_kind_is_a_value_that_is_written_back(family, example):
    adapter = DISTRIBUTION if family == "distribution" else LENGTHS
    part = adapter.validate_python(example)
    assert adapter.validate_python(adapter.dump_python(part, mode="json")) == part
    hash(part)


@pytest.mark.parametrize("example", [e for family, e in EXAMPLES if family == "distribution"])
def test_every_distribution_has_its_mean_and_support(example):
    part = DISTRIBUTION.validate_python(example)
    drawn = part.sample(rng(), 400_000)
    low, high = part.support()
    assert low <= drawn.min()
    assert drawn.max() <= high
    assert drawn.mean() == pytest.approx(part.expectation(), abs=5 * drawn.std() / 632 + 1e-9)


@pytest.mark.parametrize("example", [e for family, e in EXAMPLES if family == "lengths"])
def test_every_sampled_kind_gives_usable_lengths(example):
    part = LENGTHS.validate_python(example)
    if not isinstance(part, SampledLengths):
        return
    lengths = part.sample(rng(), 20_000)
    assert all(column.dtype == np.int64 and len(column) == 20_000 for column in lengths)
    assert lengths.input_tokens.min() >= 1
    assert lengths.thinking_tokens.min() >= 0
    assert lengths.answer_tokens.min() >= 1
    again = part.sample(rng(), 20_000)
    assert all((a == b).all() for a, b in zip(lengths, again, strict=True))


def test_a_bare_number_is_a_fixed_distribution():
    assert DISTRIBUTION.validate_python(512) == distribution(kind="fixed", value=512)
    assert {"type": "number"} in DISTRIBUTION.json_schema()["anyOf"]


@pytest.mark.parametrize(
    ("settings", "quantile", "value"),
    [
        ({"median": 208, "p99": 23400}, 0.99, 23400),
        ({"median": 208, "p90": 2000}, 0.9, 2000),
        ({"mean": 1500, "p90": 3400}, 0.9, 3400),
        ({"mean": 1500, "cv": 1.2}, 0.5, 1500 / np.sqrt(1 + 1.44)),
    ],
)
def test_a_lognormal_meets_what_it_was_given(settings, quantile, value):
    part = distribution(kind="lognormal", **settings)
    drawn = part.sample(rng(), 1_000_000)
    assert np.quantile(drawn, quantile) == pytest.approx(value, rel=0.03)
    if "mean" in settings:
        assert part.expectation() == pytest.approx(settings["mean"], rel=1e-12)


def test_a_truncated_lognormal_is_the_conditional_distribution():
    part = distribution(kind="lognormal", median=100, sigma=1, min=50, max=400)
    drawn = part.sample(rng(), 100_000)
    plain = distribution(kind="lognormal", median=100, sigma=1).sample(rng(4), 300_000)
    assert stats.ks_2samp(drawn, plain[(plain >= 50) & (plain <= 400)]).pvalue > 0.01


@given(st.lists(st.floats(0, 1e5), min_size=3, max_size=8))
def test_a_quantile_table_is_reproduced(values):
    values = sorted(values)
    shares = np.linspace(0, 1, len(values))
    part = distribution(kind="quantiles", table=dict(zip(shares.tolist(), values, strict=True)))
    drawn = part.sample(rng(), 40_000)
    reached = [(drawn <= value).mean() for value in values]
    assert (np.array(reached) >= shares - 0.012).all()
    assert part.expectation() == pytest.approx(np.trapezoid(values, shares), rel=1e-9, abs=1e-9)


def test_uniform_counts_include_both_ends_equally():
    drawn = distribution(kind="uniform", low=1, high=4).sample_counts(rng(), 100_000, 1)
    assert np.bincount(drawn)[1:] / 100_000 == pytest.approx([0.25] * 4, abs=0.006)


def test_counts_below_the_least_are_drawn_again_not_clamped():
    part = distribution(kind="lognormal", median=1, sigma=1)
    drawn = part.sample_counts(rng(), 200_000, 1)
    rounded = np.rint(part.sample(rng(4), 400_000))
    kept = rounded[rounded >= 1]
    assert drawn.min() == 1
    assert (drawn == 1).mean() == pytest.approx((kept == 1).mean(), abs=0.005)


def test_the_thinking_share_splits_the_output():
    share = {"kind": "uniform", "low": 0.5, "high": 0.9}
    part = LENGTHS.validate_python(
        {"kind": "output_with_thinking_share", "input": 10, "output": 1000, "thinking_share": share}
    )
    lengths = part.sample(rng(), 50_000)
    assert (lengths.output_tokens == 1000).all()
    assert lengths.thinking_tokens.mean() == pytest.approx(700, abs=3)


def test_an_output_always_ends_with_an_answer():
    part = LENGTHS.validate_python(
        {"kind": "output_with_thinking_share", "input": 10, "output": 1, "thinking_share": 1}
    )
    lengths = part.sample(rng(), 3)
    assert (lengths.thinking_tokens.tolist(), lengths.answer_tokens.tolist()) == ([0] * 3, [1] * 3)


def test_joint_rows_keep_their_weights_and_stay_together(tmp_path):
    rows = [[100, 0, 50, 3], [2000, 9000, 700, 1], [5, 5, 5, 0]]
    lengths = LENGTHS.validate_python({"kind": "joint_empirical", "rows": rows}).sample(rng(), 100_000)
    assert set(zip(*map(np.ndarray.tolist, lengths), strict=True)) == {(100, 0, 50), (2000, 9000, 700)}
    assert (lengths.input_tokens == 100).mean() == pytest.approx(0.75, abs=0.006)
    file = tmp_path / "rows.csv"
    file.write_text(
        "input,thinking,answer,weight\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    )
    same = LENGTHS.validate_python({"kind": "joint_empirical", "file": str(file)}).sample(rng(), 100_000)
    assert (same.input_tokens == lengths.input_tokens).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", ":1: the header must be"),
        ("input,thinking,answer\n1,0,x\n", ':2: "1,0,x" is not 3 numbers'),
        ("input,thinking,answer\n1,0,1\n1,0,0\n", ":3: input and answer"),
        ("input,thinking,answer\n", "no row"),
    ],
)
def test_a_file_of_rows_that_cannot_be_used_is_refused_with_its_line(tmp_path, text, words):
    (tmp_path / "rows.csv").write_text(text)
    part = LENGTHS.validate_python({"kind": "joint_empirical", "file": str(tmp_path / "rows.csv")})
    with pytest.raises(InputError, match=words):
        part.sample(rng(), 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "independent", "input": 0, "answer": 5}, "`input` spans 0 to 0; at least 1"),
        (
            {"kind": "independent", "input": 5, "answer": {"kind": "uniform", "low": -5, "high": 9}},
            "spans -5 to 9",
        ),
        ({"kind": "independent", "input": 5, "answer": {"kind": "normal"}}, 'no distribution "normal"'),
        (
            {"kind": "output_with_thinking_share", "input": 5, "output": 5, "thinking_share": 70},
            "between 0 and 1",
        ),
        ({"kind": "joint_empirical"}, "either `rows` or `file`"),
        ({"kind": "joint_empirical", "rows": [[1, 2]]}, "row 1: has 2 entries"),
        ({"kind": "joint_empirical", "rows": [[1, 0, 1, 0]]}, "all weights are zero"),
        ({"kind": "fixed", "input": 1}, "answer"),
    ],
)
def test_lengths_that_no_request_can_have_are_refused_in_words(settings, words):
    with pytest.raises(ValidationError, match=words):
        LENGTHS.validate_python(settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "lognormal", "sigma": 1}, "either `median` or `mean`"),
        ({"kind": "lognormal", "median": 5}, "one of `sigma`"),
        ({"kind": "lognormal", "median": 5, "p99": 4}, "must lie above 5"),
        ({"kind": "lognormal", "mean": 1, "p90": 1000}, "no lognormal of mean 1"),
        ({"kind": "lognormal", "median": 5, "sigma": 0.1, "min": 1000}, "next to nothing"),
        ({"kind": "uniform", "low": 5, "high": 4}, "`low` must be below `high`"),
        ({"kind": "quantiles", "table": {"0": 1, "0.5": 2}}, "begins at 0 and ends at 1"),
        ({"kind": "quantiles", "table": {"0": 3, "1": 2}}, "rises; 1: 2 follows 0: 3"),
    ],
)
def test_distributions_that_do_not_exist_are_refused_in_words(settings, words):
    with pytest.raises(ValidationError, match=words):
        DISTRIBUTION.validate_python(settings)
