import math
import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from clustersim.errors import InputError
from clustersim.workload import Sampler, Workload, generate

PLAIN = "arrival_s,input_tokens,output_tokens\n" + "".join(f"{i},{i + 1},{2 * i + 1}\n" for i in range(100))
POISSON = {"kind": "poisson", "rate": "10 req/s"}
FIXED = {"kind": "fixed", "input": 10, "answer": 5}
OWN, BY_WEIGHT = {"name": "a", "arrivals": POISSON}, {"name": "a", "weight": 1}
LOOP = {"kind": "closed_loop", "concurrency": 4}
SHUFFLED = {"kind": "trace", "order": "random"}
DRAWN = {"kind": "independent", "input": {"kind": "lognormal", "median": 3, "sigma": 1}, "answer": 5}


def workload(**settings):
    return Workload.model_validate(settings)


@pytest.fixture
def plain(tmp_path):
    (tmp_path / "plain.csv").write_text(PLAIN)
    return {"path": str(tmp_path / "plain.csv")}


def columns(requests):
    return np.array([requests.arrival_s, requests.input_tokens, requests.thinking_tokens,
                     requests.answer_tokens, requests.tenant, requests.trace_row])  # fmt: skip


def same(a, b):
    return np.array_equal(columns(a), columns(b), equal_nan=True)


def test_a_workload_of_one_process():
    requests = generate(workload(arrivals=POISSON, lengths=DRAWN), 1, 1000.0)
    assert len(requests) == pytest.approx(10_000, abs=400)
    assert (requests.tenant == 0).all()
    assert (requests.trace_row == -1).all()
    assert requests.summary().rate_per_s == pytest.approx(10, rel=0.04)


def test_the_same_seed_gives_the_same_requests_and_another_does_not():
    given = workload(arrivals=POISSON, lengths=DRAWN)
    assert same(generate(given, 1, 100.0), generate(given, 1, 100.0))
    assert generate(given, 1, 100.0).arrival_s[0] != generate(given, 2, 100.0).arrival_s[0]


def test_a_longer_horizon_or_another_part_disturbs_nothing_else():
    given = workload(arrivals=POISSON, lengths=DRAWN)
    short, long = generate(given, 1, 100.0), generate(given, 1, 1000.0)
    assert (columns(short) == columns(long)[:, : len(short)]).all()
    other = generate(workload(arrivals=POISSON, lengths=FIXED), 1, 100.0)
    assert (other.arrival_s == short.arrival_s).all()
    bursty = generate(
        workload(arrivals={"kind": "gamma", "rate": "10 req/s", "cv": 3}, lengths=DRAWN), 1, 1000.0
    )
    num = min(len(bursty), len(long))
    assert (bursty.input_tokens[:num] == long.input_tokens[:num]).all()


def test_tenants_by_weight():
    tenants = [{"name": "a", "weight": 3}, {"name": "b", "weight": 1, "lengths": {**FIXED, "input": 77}}]
    given = workload(arrivals=POISSON, lengths=FIXED, tenants=tenants)
    requests = generate(given, 1, 2000.0)
    assert (requests.tenant == 0).mean() == pytest.approx(0.75, abs=0.013)
    assert (requests.input_tokens == np.where(requests.tenant == 0, 10, 77)).all()


def test_tenants_with_arrivals_of_their_own_are_merged_by_time():
    tenants = [
        {"name": "a", "arrivals": POISSON, "slo": {"ttft": "1 s"}},
        {"name": "b", "arrivals": {"kind": "deterministic", "rate": "1 req/s"}},
    ]
    given = workload(lengths=FIXED, tenants=tenants, slo={"ttft": "2 s", "e2el": "1 min"}, rate_scale=2)
    requests = generate(given, 1, 500.0)
    assert (np.diff(requests.arrival_s) >= 0).all()
    assert requests.arrival_s[requests.tenant == 1] == pytest.approx(np.arange(1000) / 2)
    assert (requests.tenant == 0).sum() == pytest.approx(10_000, abs=400)
    assert [given.slo_of(index).ttft_s for index in (0, 1)] == [1, 2]
    alone = generate(workload(lengths=FIXED, tenants=tenants[:1], rate_scale=2), 1, 500.0)
    assert (alone.arrival_s == requests.arrival_s[requests.tenant == 0]).all()


def test_a_number_of_requests_bounds_an_endless_process():
    tenants = [{"name": name, "arrivals": POISSON} for name in "ab"]
    bounded = generate(workload(lengths=FIXED, tenants=tenants, num_requests=1000), 1)
    free = generate(workload(lengths=FIXED, tenants=tenants), 1, 1000.0)
    assert len(bounded) == 1000
    assert (bounded.arrival_s == free.arrival_s[:1000]).all()


def test_start_is_the_time_of_day_and_arrivals_count_from_it():
    curve = {"kind": "rate_curve", "bins": {"width": "1 h", "rates": ["0 req/s", "5 req/s"]}, "period": "2 h"}
    early = generate(workload(arrivals=curve, lengths=FIXED), 1, 3600.0)
    late = generate(workload(arrivals=curve, lengths=FIXED, start="1 h"), 1, 3600.0)
    assert len(early) == 0
    assert len(late) == pytest.approx(18_000, rel=0.05)
    assert 0 <= late.arrival_s[0] < late.arrival_s[-1] < 3600


def test_a_trace_is_replayed_whole_with_its_rows_together(plain):
    requests = generate(workload(trace=plain), 1)
    assert (requests.arrival_s == np.arange(100)).all()
    assert (requests.input_tokens == np.arange(100) + 1).all()
    assert (requests.answer_tokens == 2 * np.arange(100) + 1).all()
    assert (requests.trace_row == np.arange(100)).all()
    assert len(generate(workload(trace=plain), 1, 10.0)) == 10
    faster = generate(workload(trace=plain, arrivals={"kind": "trace", "speedup": 2}, rate_scale=5), 1)
    assert faster.arrival_s[-1] == pytest.approx(9.9)


def test_a_trace_may_give_lengths_alone(plain):
    requests = generate(workload(trace=plain, arrivals=POISSON, num_requests=250), 1)
    assert (requests.trace_row == np.arange(250) % 100).all()
    lengths = {"kind": "trace", "order": "random", "thinking_share": 0.5}
    requests = generate(workload(trace=plain, arrivals=POISSON, lengths=lengths, num_requests=5000), 1)
    assert requests.trace_row.mean() == pytest.approx(49.5, abs=2)
    assert (requests.output_tokens == 2 * requests.trace_row + 1).all()
    assert requests.thinking_tokens.sum() / requests.output_tokens.sum() == pytest.approx(0.5, abs=0.01)


def test_a_trace_without_times_needs_other_arrivals(tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "12345678", "output_tokens": 3}\n')
    source = {"path": str(tmp_path / "prompts.jsonl")}
    with pytest.raises(
        InputError,
        match="has no arrival times; say when its requests come",
    ):
        generate(workload(trace=source), 1)
    assert len(generate(workload(trace=source, arrivals=POISSON, num_requests=5), 1)) == 5


@pytest.mark.parametrize("lengths", [DRAWN, {"kind": "trace", "order": "random", "thinking_share": 0.5}])
def test_how_many_a_sampler_draws_at_a_time_changes_nothing(lengths, plain):
    tenants = [{"name": "a", "weight": 1}, {"name": "b", "weight": 2, "lengths": DRAWN}]
    trace = plain if lengths["kind"] == "trace" else None
    given = workload(
        arrivals={"kind": "closed_loop", "concurrency": 4}, lengths=lengths, tenants=tenants, trace=trace
    )
    whole = Sampler(given, 1).draw(9000)
    sampler = Sampler(given, 1)
    pieces = [columns(sampler.draw(num)) for num in (1, 4095, 4097, 0, 807)]
    assert np.array_equal(np.concatenate(pieces, axis=1), columns(whole), equal_nan=True)


def test_a_closed_loop_draws_requests_that_are_not_issued_yet():
    loop = {"kind": "closed_loop", "concurrency": 4, "think_time": "5 s"}
    given = workload(arrivals=loop, lengths=DRAWN, num_requests=50)
    assert (given.closed_loop.concurrency, given.closed_loop.think_time_s) == (4, 5)
    requests = generate(given, 1)
    assert len(requests) == 50
    assert np.isnan(requests.arrival_s).all()
    assert math.isnan(requests.summary().rate_per_s)
    with pytest.raises(ValueError, match="draws from a Sampler"):
        generate(workload(arrivals=loop, lengths=DRAWN), 1, 100.0)


def test_arrivals_without_bound_or_too_few_of_them_are_refused():
    with pytest.raises(
        InputError, match="poisson arrivals never end: give the workload `num_requests` or a horizon"
    ):
        generate(workload(arrivals=POISSON, lengths=FIXED), 1)
    with pytest.raises(InputError, match="arrivals end after 3 requests, fewer than num_requests: 5"):
        generate(workload(arrivals={"kind": "all_at_once", "num": 3}, lengths=FIXED, num_requests=5), 1)
    assert len(generate(workload(arrivals={"kind": "all_at_once", "num": 3}, lengths=FIXED), 1)) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "needs `arrivals`, a `trace`, or tenants"),
        ({"arrivals": POISSON}, "needs `lengths` or a `trace`"),
        ({"arrivals": "trace", "lengths": FIXED}, "`arrivals: trace` needs a `trace`"),
        ({"arrivals": POISSON, "lengths": "trace"}, "`lengths: trace` needs a `trace`"),
        ({"arrivals": POISSON, "lengths": FIXED, "trace": {"path": "x"}}, "the `trace` has no effect"),
        ({"trace": {"path": "x"}, "lengths": SHUFFLED}, "parts the trace's lengths"),
        ({"arrivals": LOOP, "lengths": FIXED, "rate_scale": 2}, "no rate"),
        ({"arrivals": POISSON, "lengths": FIXED, "rate_scale": 0}, "greater than 0"),
        ({"lengths": FIXED, "tenants": [{"name": "a"}]}, 'tenant "a" needs `arrivals`'),
        ({"arrivals": POISSON, "lengths": FIXED, "tenants": [{"name": "a"}]}, "needs a `weight`"),
        ({"lengths": FIXED, "tenants": [{**OWN, "weight": 1}]}, "both `weight` and"),
        ({"arrivals": POISSON, "lengths": FIXED, "tenants": [OWN]}, "in one place"),
        ({"lengths": FIXED, "tenants": [OWN, {"name": "b"}]}, 'as tenant "a" has'),
        ({"arrivals": POISSON, "tenants": [BY_WEIGHT]}, 'tenant "a" needs `lengths`'),
        ({"arrivals": POISSON, "lengths": FIXED, "tenants": [{**BY_WEIGHT, "lengths": FIXED}]}, "effect"),
        ({"arrivals": POISSON, "lengths": FIXED, "tenants": [BY_WEIGHT] * 2}, "two tenants"),
        ({"lengths": FIXED, "tenants": [{"name": "a", "arrivals": LOOP}]},
         "make it a workload of its own"),
        ({"arrivals": POISSON, "lengths": FIXED, "slo": {"ttft": 2}}, "2 has no unit"),
    ],
)  # fmt: skip
def test_settings_that_contradict_are_refused_in_words(settings, words):
    with pytest.raises(ValidationError, match=words):
        workload(**settings)


def test_a_workload_is_written_back():
    given = workload(arrivals=POISSON, lengths=DRAWN, slo={"ttft": "1 s"}, to="chat", start="8 h")
    assert Workload.model_validate(given.model_dump(mode="json")) == given


def test_the_package_needs_neither_simpy_nor_pandas_to_be_imported():
    code = "import sys, clustersim.workload as w; sys.exit('simpy' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
