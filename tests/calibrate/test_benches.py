"""Every benchmark's quick cases run, plans have sensible sizes, and what is read off samples is right."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from calibrate.backend import DeviceBackend  # noqa: E402
from calibrate.backends import pick_backend  # noqa: E402
from calibrate.backends.recorded import recorded_backend  # noqa: E402
from calibrate.benches import Bench, benches  # noqa: E402
from calibrate.benches.gemm_peak import peaks  # noqa: E402
from calibrate.benches.membw import knee  # noqa: E402
from calibrate.benches.operands import num_copies, rotate, rotating  # noqa: E402
from calibrate.benches.sizes import step_model  # noqa: E402
from calibrate.case import Case, Samples  # noqa: E402

NAMES = [
    "attention_decode", "attention_prefill", "copies", "elementwise", "gemm", "gemm_peak", "grouped_gemm", "launch",
    "membw", "mla_decode", "power", "step", "storage",
]  # fmt: skip


@cache
def cpu() -> DeviceBackend:
    return pick_backend("cpu")


def big(**more) -> DeviceBackend:
    device = {"name": "big", "dtypes": ["bf16", "fp8"], "memory_bytes": 80 * 10**9, "cache_bytes": 50 * 2**20}
    return recorded_backend({"device": device, "readings": [{"power_w": 300.0}], **more})


def small() -> DeviceBackend:
    device = {"name": "small", "dtypes": ["bf16"], "memory_bytes": 2 * 10**9, "cache_bytes": 2 * 2**20}
    return recorded_backend({"device": device})


def bench(name: str) -> Bench:
    return benches()[name]


def tensors(result) -> list:
    found = result if isinstance(result, list | tuple) else [result]
    return [each for each in found if isinstance(each, torch.Tensor)]


def test_every_benchmark_is_found() -> None:
    assert list(benches()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_quick_cases_run_on_this_machine(name: str) -> None:
    cases = bench(name).cases("quick", cpu())
    assert cases or bench(name).gaps(cpu()), "nothing to measure, and no word why"
    for case in cases:
        call = bench(name).prepare(case, cpu())
        for _ in range(2):
            for out in tensors(call()):
                assert torch.isfinite(out.float()).all(), case
        work = bench(name).work(case)
        assert all(math.isfinite(value) and value >= 0 for value in vars(work).values())
        if not case.shape.get("window_ms"):
            assert cpu().time(call) > 0


@pytest.mark.parametrize("plan", ["quick", "default", "full"])
@pytest.mark.parametrize("device", [cpu, small, big])
def test_cases_are_unique_fit_in_memory_and_come_out_the_same(plan, device) -> None:
    backend = device()
    for name, each in benches().items():
        cases = each.cases(plan, backend)
        keys = [case.key for case in cases]
        assert len(set(keys)) == len(keys), name
        assert keys == [case.key for case in each.cases(plan, backend)], name
        assert all(case.bench == name for case in cases)
        assert all(Case(**case.as_dict()).key == case.key for case in cases)
        on_device = [each.work(case).bytes for case in cases if name != "storage"]
        assert max(on_device, default=0.0) <= backend.memory_bytes / 2, name


def test_plan_sizes() -> None:
    def number(plan, backend):
        return sum(len(each.cases(plan, backend)) for each in benches().values())

    for backend in (cpu(), big(), small()):
        quick, default, full = (number(plan, backend) for plan in ("quick", "default", "full"))
        assert 60 < quick < 250 < default < full < 6000, backend.name
    assert number("full", small()) < number("full", big())


def test_quick_bytes_and_flops_on_a_core_are_small() -> None:
    works = [each.work(case) for each in benches().values() for case in each.cases("quick", cpu())]
    assert sum(work.bytes for work in works) < 4e9
    assert sum(work.flops for work in works) < 20e9


def test_default_covers_what_a_step_needs() -> None:
    cases = bench("gemm").cases("default", cpu())
    shapes = {(case.shape["n"], case.shape["k"]) for case in cases if case.shape["m"] == 1}
    spec = step_model("cpu", 2)
    assert {(1280, 768), (768, 768), (4096, 768), (768, 2048), (spec.vocab_size, 768)} <= shapes
    tokens = {case.shape["m"] for case in cases if (case.shape["n"], case.shape["k"]) == (768, 768)}
    assert {*range(1, 18), 24, 32, 33, 48, 64, 65, 96, 128, 129} <= tokens
    heads = {
        (c.shape["heads"] // c.shape["kv_heads"]) for c in bench("attention_decode").cases("default", cpu())
    }
    assert {1, 3, 4, 8} <= heads


def test_full_plan_of_a_big_device_has_the_grid() -> None:
    cases = bench("attention_decode").cases("full", big())
    assert {1, 4} | {8, 512} <= {case.shape["batch"] for case in cases}
    assert {16, 128, 131072} <= {case.shape["context"] for case in cases}
    assert {16, 64} == {case.shape["page"] for case in cases}
    assert {0, 1} == {case.shape["skew"] for case in cases}
    assert {64, 128} <= {case.shape["head_dim"] for case in cases}
    assert max(case.shape["m"] for case in bench("gemm").cases("full", big())) == 8192
    assert max(case.shape["bytes"] for case in bench("membw").cases("full", big())) == pytest.approx(
        4e9, rel=0.01
    )
    assert {"bf16", "fp8"} == {case.dtype for case in bench("gemm_peak").cases("full", big())}


def test_gpu_only_benchmarks_say_why_they_are_missing() -> None:
    assert not bench("copies").cases("full", cpu())
    assert bench("copies").gaps(cpu())
    assert bench("copies").cases("quick", big())
    assert bench("power").cases("quick", big())
    assert not bench("power").gaps(big())
    assert not bench("power").cases("quick", small())
    assert "NVML" in bench("power").gaps(small())[0]


def test_the_best_cases_come_first() -> None:
    quick = {case.key for case in bench("gemm").cases("quick", cpu())}
    default = [case.key for case in bench("gemm").cases("default", cpu())]
    assert quick <= set(default[: 5 * len(quick)])


def test_cold_operands_rotate_through_more_than_twice_the_cache() -> None:
    for each in (2**10, 2**20, 10 * 2**20):
        copies = num_copies(each, cpu())
        assert copies == 2048 or copies * each > 2 * cpu().cache_bytes
    assert num_copies(3 * cpu().cache_bytes, cpu()) == 1
    sets = rotating(cpu(), "bf16", [(8, 16), (4,)], 5)
    places = [(t.data_ptr(), t.data_ptr() + t.numel() * 2) for one in sets for t in one]
    assert all(end <= begin for (_, end), (begin, _) in pairwise(places))
    seen: list[int] = []
    call = rotate([1, 2, 3], seen.append)
    for _ in range(4):
        call()
    assert seen == [1, 2, 3, 1]


def curve(llc: float, inside: float, outside: float) -> list[Samples]:
    found = []
    for power in range(41):
        size = int(2**20 * 2 ** (power / 4))
        seconds = size / (inside if size <= llc else outside)
        found.append(Samples(Case("membw", "copy", "fp32", {"bytes": size}), (seconds,) * 3, "cpu"))
    return found


@pytest.mark.parametrize("llc", [4 * 2**20, 32 * 2**20, 100 * 2**20])
def test_knee_finds_the_cache(llc: float) -> None:
    found = knee(curve(llc, 80e9, 20e9))
    assert found is not None
    assert llc / 1.3 < found < llc * 1.3


def test_no_knee_without_a_step() -> None:
    assert knee(curve(32 * 2**20, 20e9, 20e9)) is None
    assert knee([]) is None


def test_peaks_are_the_median_of_the_fastest_and_the_mean_of_the_window() -> None:
    shape = {"m": 100, "n": 100, "k": 100}
    flops = 2e6
    burst = Samples(
        Case("gemm_peak", "burst", "bf16", {**shape, "window_ms": 0}),
        (1.0, 2.0, 3.0, 4.0, 5.0, 9.0, 9.0),
        "cpu",
    )
    steady = Samples(Case("gemm_peak", "sustained", "bf16", {**shape, "window_ms": 9}), (4.0, 6.0), "cpu")
    found = peaks([burst, steady])["bf16"]
    assert found.burst == pytest.approx(flops / 3.0)
    assert found.sustained == pytest.approx(flops / 5.0)
    assert peaks([burst])["bf16"].sustained is None


def test_the_first_products_span_token_counts_and_shapes() -> None:
    cases = bench("gemm").cases("default", cpu())[:45]
    tokens = {m: {(c.shape["n"], c.shape["k"]) for c in cases if c.shape["m"] == m} for m in (1, 4, 16, 64)}
    own = {(1280, 768), (768, 768), (4096, 768), (768, 2048), (32000, 768)}
    assert all(own <= shapes for shapes in tokens.values())
    assert len(tokens[1]) > len(own)
    contexts = [c.shape["context"] for c in bench("attention_decode").cases("default", cpu())[:16]]
    assert {128, 512, 1024, 8192} <= set(contexts)


def test_the_cost_model_can_look_up_every_elementwise_case_of_a_plan() -> None:
    cases = bench("elementwise").cases("default", cpu())
    assert {case.op for case in cases} == {
        "norm", "activation", "rope_and_kv_write", "embedding", "sampling", "top_k"
    }  # fmt: skip
    assert {"add", "argmax", "kv_write"} <= {case.op for case in bench("elementwise").cases("full", cpu())}
    assert {case.cache for case in cases} == {"cold"}


def test_quick_measures_prefill_often_enough_for_a_fit() -> None:
    from calibrate.fit import LEAST_ROWS

    assert len(bench("attention_prefill").cases("quick", cpu())) >= LEAST_ROWS


def test_the_spacer_is_a_layer_on_other_weights_each_time() -> None:
    assert cpu().spacer() is cpu().spacer()
    x, residual = cpu().spacer()()
    again, _ = cpu().spacer()()
    assert x.shape == residual.shape == (8, 768)
    assert not x.equal(again)
