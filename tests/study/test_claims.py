"""Claims: the regression values, the rules of the verdict, formulas, and what malformed files are answered with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clustersim import library
from clustersim.errors import InputError
from clustersim.study.claims import Finding, check, load_claims
from clustersim.study.claims.claim import Said
from clustersim.study.claims.formula import Formula, amount, quantity, show
from clustersim.study.claims.verdict import agrees, judge

#: Claims that need no run, and those whose runs are short and that hold values below.
QUICK = tuple(
    name for name in library.names("claims")
    if "kind: simulate" not in library.find("claims", name).read_text(encoding="utf-8")
)  # fmt: skip


@pytest.fixture(scope="module")
def found() -> dict[str, Finding]:
    return {each.claim.id: each for each in check(load_claims([*QUICK, "A1", "D3"]), processes=1)}


#: Claim -> step or input -> what it must be, and how far it may be off, relatively.
EXPECTED = {
    "A1": {"claimed_hours": ("7200 h", 0), "tokens": ("57e6", 0), "chain": ("55.7e3", 0.001)},
    "A2": {"high_setting": ("3420 USD", 0)},
    "A8": {"factor": ("243", 0), "fall": ("1000", 0)},
    "B1": {"hex": ("15.8", 0.005)},
    "B2": {"ratio": ("14", 0)},
    "B3": {"observed": ("0.201", 0.002)},
    "B6": {"factor": ("1024", 0), "flat_factor": ("1048576", 0)},
    "B12": {"factor": ("5263", 0.0001)},
    "C4": {"orders": ("8", 0)},
    "D2a": {"gradients": ("810 GB", 0), "synchronous": ("1.09 Tb/s", 0.01)},
    "D3": {"kv_8b": ("128 KiB", 0), "kv_70b": ("320 KiB", 0), "kv_405b": ("504 KiB", 0), "kv_r1": ("68.62 KiB", 1e-4)},
}  # fmt: skip


@pytest.mark.parametrize(
    ("claim", "step"), [(claim, step) for claim, steps in EXPECTED.items() for step in steps]
)
def test_regression_values(found: dict[str, Finding], claim: str, step: str) -> None:
    finding, (text, within) = found[claim], EXPECTED[claim][step]
    got = finding.inputs[step].quantity if step in finding.inputs else finding[step]
    ratio = got / quantity(text)
    assert amount(ratio, "1") == pytest.approx(1, rel=max(within, 1e-9))


def test_every_value_is_that_by_hand(found: dict[str, Finding]) -> None:
    assert [
        (name, line.step.name, line.shown) for name, each in found.items() for line in each.off_hand
    ] == []


def test_every_answer_has_a_value_by_hand() -> None:
    for each in load_claims():
        step = next(step for step in each.claim.check.steps if step.name == each.claim.answer)
        assert step.by_hand is not None, each.claim.id


@pytest.mark.parametrize("claim", ["A1", "A3", "A8", "B2", "B6", "D2a"])
def test_what_is_wrong_is_shown_to_be_so(found: dict[str, Finding], claim: str) -> None:
    assert found[claim].verdict.ruling == "does not hold"


@pytest.mark.parametrize(
    ("claim", "assumption"), [("B1", "kC was chosen"), ("B4", "more samples"), ("B11", "loss_linked"), ("D6", "volume")]
)  # fmt: skip
def test_what_is_loose_names_its_assumptions(found: dict[str, Finding], claim: str, assumption: str) -> None:
    verdict = found[claim].verdict
    assert verdict.ruling == "holds under stated assumptions"
    assert any(assumption in text for text in verdict.assumptions)


# ---- verdict --------------------------------------------------------------------------------------------------------

BAND = Said.model_validate({"text": "10 h", "value": "10 h", "factor": 2})


def test_the_rules_of_the_verdict() -> None:
    right, wrong = quantity("1000 min"), quantity("21 h")
    assert judge(BAND, right, (), ()).ruling == "holds"
    assert judge(BAND, right, ("day",), ()).ruling == "holds under stated assumptions"
    assert judge(BAND, wrong, (), [("night", right)]).assumptions == ("night",)
    assert judge(BAND, wrong, ("day",), [("night", right)]).assumptions == ("day", "night")
    assert judge(BAND, wrong, ("day",), [("night", wrong)]).ruling == "does not hold"


@given(st.floats(1e-6, 1e6), st.floats(1.01, 100))
def test_a_value_agrees_within_its_factor_up_and_down(value: float, factor: float) -> None:
    said = Said(text="so", value=value, factor=factor)
    for share in (1 / factor * 1.001, 1.0, factor * 0.999):
        assert agrees(said, quantity(value * share))
    for share in (1 / factor * 0.99, factor * 1.01):
        assert not agrees(said, quantity(value * share))


def test_bounds_are_meant_as_they_stand() -> None:
    said = Said(text="up to", low="1 s", high="2 s")
    assert all(agrees(said, quantity(text)) for text in ("1 s", "2000 ms"))
    assert not any(agrees(said, quantity(text)) for text in ("999 ms", "2.001 s"))
    with pytest.raises(InputError, match="the answer is in joule"):
        agrees(said, quantity("1 J"))


# ---- formulas -------------------------------------------------------------------------------------------------------


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(-2, 2))
def test_formulas_mean_what_they_say(a: float, b: float, c: float) -> None:
    names = {"a": quantity(a), "b": quantity(b), "c": quantity(c)}
    assert Formula("-(a + 2) * b ** c / (a - 3 * b - 100)").value(names, {}).magnitude == pytest.approx(
        -(a + 2) * b**c / (a - 3 * b - 100)
    )


def test_formulas_show_their_numbers() -> None:
    formula = Formula("tokens * price / 2")
    written = formula.with_numbers({"tokens": "1,000", "price": "60 USD/Mtok"}, {})
    assert written == "1,000 * (60 USD/Mtok) / 2"
    value = formula.value({"tokens": quantity(1000), "price": quantity("60 USD/Mtok")}, {})
    assert show(value, "USD") == "0.03 USD"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tme * 2", 'no value "tme". Did you mean "time"'),
        ("time + 2", "units do not fit"),
        ("time / 0", "has no value"),
        ("sqrt(time)", 'no function "sqrt"'),
        ("time if time else time", "is not allowed"),
        ("(1).__class__", "is not allowed"),
        ("time *", "is not a formula"),
    ],
)
def test_formulas_that_cannot_be(text: str, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        Formula(text).value({"time": quantity("8 h")}, {})


# ---- files ----------------------------------------------------------------------------------------------------------

GOOD = """\
id: Z1
claim: Two and two are four.
said_by: a test
asked: What are they?
said: {text: four, value: 4}
check:
  kind: arithmetic
  inputs:
    two: {value: 2, evidence: claimed, source: the claim}
  steps:
    - {name: sum, formula: two + two, unit: "1", by_hand: 4}
answer: sum
"""


def test_a_claim_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    (finding,) = check(load_claims([str(path)]))
    assert finding.verdict.ruling == "holds"
    assert finding.answer.with_numbers == "2 + 2"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("kind: arithmetic", "kind: aritmetic", 'Did you mean "arithmetic"'),
        ("formula: two + two", "formula: two + tow", 'no value before it "tow". Did you mean "two"'),
        ("formula: two + two", "formula: two +", "is not a formula"),
        ('unit: "1"', "unit: hous", 'no unit "hous"'),
        ("answer: sum", "answer: sun", 'no step "sun". Did you mean "sum"'),
        ("evidence: claimed, source: the claim", "evidence: claimed", 'needs "evidence" and "source"'),
        ("value: 4}", "value: 4, high: 5}", 'give either "value"'),
        ("value: 4}", "value: 4 furlongs}", "unknown unit"),
        ("id: Z1", "id: one", "pattern"),
        ("claim: Two", "verdict: holds\nclaim: Two", 'no key "verdict"'),
        ("    two: {value: 2, evidence: claimed, source: the claim}", "    two: {library: accelerators/h100-sxm/tdp}",
         'Did you mean "tdp_w"'),
    ],
)  # fmt: skip
def test_malformed_claims_are_answered_with_the_mend(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "mine.yaml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(InputError) as error:
        check(load_claims([str(path)]))
    assert says in str(error.value)


def test_a_mistake_in_a_scenario_has_its_line(tmp_path: Path) -> None:
    text = library.find("claims", "A6").read_text(encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("horizon: 1 min", "horizn: 1 min"))
    with pytest.raises(InputError, match=r"mine\.yaml:\d+: horizn: no key"):
        load_claims([str(path)])


def test_unknown_claims_are_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="no claim"):
        load_claims(["A88"])


def test_ids_stand_in_order() -> None:
    ids = [each.claim.id for each in load_claims()]
    order = [ids.index(name) for name in ("A2", "A8", "B1", "B12", "D2", "D2a")]
    assert order == sorted(order)
