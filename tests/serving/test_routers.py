"""What each router chooses, among targets whose loads, caches and prices are made up."""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import Any

import numpy as np
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from clustersim.errors import InputError
from clustersim.scenario.plan import plan
from clustersim.serving.routers import Choice, Facts, Load, Router, Targets
from clustersim.serving.routers.carbon_aware import CarbonAware
from clustersim.serving.routers.cost_aware import CostAware
from clustersim.serving.routers.kv_aware import KvAware
from clustersim.serving.routers.least_outstanding import LeastOutstandingRequests
from clustersim.serving.routers.power_of_two import PowerOfTwo
from clustersim.serving.routers.prefix_aware import PrefixAware
from clustersim.serving.routers.session_affine import SessionAffine
from clustersim.serving.routers.slo_aware import SloAware
from clustersim.serving.routers.weighted import Weighted
from clustersim.simulation.world import World


class Yard:
    """Targets to play with. Every request has 100 input tokens unless said otherwise."""

    def __init__(self, num: int, **told: Any) -> None:
        self.loads = [Load() for _ in range(num)]
        self.targets = Targets(
            self.loads,
            told.pop("tokens", lambda _request: 150),
            **{"input_tokens": lambda _request: 100, **told},
        )

    def set(self, index: int, requests: int | None = None, *, up: bool | None = None) -> None:
        """Change a load, and tell."""
        load = self.loads[index]
        if requests is not None:
            load.requests, load.tokens = requests, 150 * requests
        load.up = load.up if up is None else up
        for watch in self.targets.watchers:
            watch(index)

    def send(self, choose: Choice, request: int) -> int:
        """Route a request, and count it where it goes."""
        at = choose(request)
        self.set(at, self.loads[at].requests + 1)
        return at


def caches(held: dict[int, dict[int, int]]) -> dict[str, Any]:
    """Return what is told of caches: held[request][target] tokens."""

    def holders(request: int) -> list[tuple[int, list[int]]]:
        groups: dict[int, list[int]] = {}
        for target, tokens in held.get(request, {}).items():
            groups.setdefault(tokens, []).append(target)
        return sorted(groups.items(), reverse=True)

    return {"cached": lambda request, target: held.get(request, {}).get(target, 0), "holders": holders}


@pytest.mark.parametrize("router", toy.ROUTERS, ids=lambda router: router.model_dump_json())
def test_no_request_goes_to_a_target_that_is_down(router: Router) -> None:
    rng = np.random.default_rng(5)
    num = 7
    yard = Yard(
        num,
        session=lambda request: request % 11 - 3,
        key=lambda request: request % 13 - 2,
        cached=lambda request, target: request * target % 100,
        queue_s=lambda target: target % 3,
        ttft_limit_s=lambda request: request % 4 or inf,
        facts=[Facts(50.0, 1.0 + n % 2, n % 3, -n % 3) for n in range(num)],
    )
    yard.set(3, up=False)
    choose = router.start(yard.targets)
    went: Counter[int] = Counter()
    for request in range(2000):
        for index in rng.integers(num, size=2).tolist():
            up = bool(rng.random() < 0.5) or yard.targets.up() == [index]
            yard.set(index, int(rng.integers(6)), up=up)
        at = yard.send(choose, request)
        assert yard.loads[at].up
        went[at] += 1
    assert set(went) == set(range(num))


@pytest.mark.parametrize("router", toy.ROUTERS, ids=lambda router: router.model_dump_json())
def test_the_same_asked_again_is_chosen_again(router: Router) -> None:
    def choices() -> list[int]:
        yard = Yard(5, rng=np.random.default_rng(1), session=lambda request: request % 4 - 1)
        choose = router.start(yard.targets)
        return [yard.send(choose, request) for request in range(100)]

    assert choices() == choices()


def test_one_target_gets_everything() -> None:
    for router in toy.ROUTERS:
        yard = Yard(1)
        assert {yard.send(router.start(yard.targets), request) for request in range(5)} == {0}


# ---- power of two -------------------------------------------------------------------------------------------------


def test_power_of_two_halves_the_longest_queue_of_random_choice() -> None:
    """n balls in n bins: ln n / ln ln n against ln ln n / ln 2, and the least loaded at 1."""
    num, longest = 1000, {"two": [], "random": [], "least": []}
    for seed in range(10):
        rng = np.random.default_rng(seed)
        yard, even = Yard(num, rng=rng), Yard(num)
        choose, fewest = PowerOfTwo().start(yard.targets), LeastOutstandingRequests().start(even.targets)
        for request in range(num):
            yard.send(choose, request)
            even.send(fewest, request)
        longest["two"].append(max(load.requests for load in yard.loads))
        longest["least"].append(max(load.requests for load in even.loads))
        longest["random"].append(np.bincount(rng.integers(num, size=num)).max())
    assert np.mean(longest["two"]) <= 0.6 * np.mean(longest["random"])
    assert longest["least"] == [1] * 10


def test_power_of_two_looks_at_two_different_targets() -> None:
    yard = Yard(2)
    yard.set(0, 1)
    choose = PowerOfTwo().start(yard.targets)
    assert {choose(request) for request in range(50)} == {1}


def test_power_of_two_picks_all_pairs_alike() -> None:
    yard = Yard(4)
    for index in range(4):
        yard.set(index, index)
    choose = PowerOfTwo().start(yard.targets)
    shares = np.bincount([choose(request) for request in range(6000)], minlength=4) / 6000
    np.testing.assert_allclose(shares, [3 / 6, 2 / 6, 1 / 6, 0], atol=0.03)


# ---- caches -------------------------------------------------------------------------------------------------------


def test_prefix_aware_goes_to_the_longest_cached_prefix() -> None:
    yard = Yard(4, **caches({0: {1: 40, 2: 90, 3: 90}, 1: {3: 30}}))
    yard.set(2, 3)
    yard.set(0, 1)
    choose = PrefixAware().start(yard.targets)
    assert choose(0) == 3, "of equals the less loaded"
    assert choose(1) == 1, "30 of 100 is not above the threshold: the least loaded"
    yard.set(3, up=False)
    assert choose(0) == 2


def test_prefix_aware_evens_out_what_is_uneven() -> None:
    yard = Yard(3, **caches({0: {1: 99}}))
    choose = PrefixAware(max_difference=4, max_ratio=2).start(yard.targets)
    for requests, base, chosen in ((4, 0, 1), (5, 0, 0), (9, 4, 0), (8, 4, 1), (20, 10, 1), (21, 10, 0)):
        yard.set(0, base)
        yard.set(1, requests)
        yard.set(2, base)
        assert choose(0) == chosen, (requests, base)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_caches_are_searched_as_if_all_were_looked_at(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num = int(rng.integers(1, 9))
    held = {
        request: {
            int(at): int(rng.choice([10, 50, 90])) for at in rng.permutation(num)[: rng.integers(num + 1)]
        }
        for request in range(20)
    }
    yard, plain = (
        Yard(num, **told) for told in (caches(held), {"cached": lambda request, at: held[request].get(at, 0)})
    )
    weight = float(rng.choice([0.0, 1.0, 5.0]))
    for router in (KvAware(weight=weight), PrefixAware(max_difference=1000)):
        chosen = [router.start(each.targets) for each in (yard, plain)]
        for request in range(20):
            index, requests = int(rng.integers(num)), int(rng.integers(5))
            for each in (yard, plain):
                each.set(index, requests)

            def cost(at: int, request: int = request) -> float:
                return yard.loads[at].tokens + weight * (100 - held[request].get(at, 0))

            found = [choose(request) for choose in chosen]
            if isinstance(router, KvAware):
                assert cost(found[0]) == cost(found[1]) == min(map(cost, range(num)))
            else:
                best = max((tokens for tokens in held[request].values() if tokens > 30), default=0)
                got = [held[request].get(at, 0) for at in found]
                assert got == [best, best] if best else got[0] <= 30
                assert yard.loads[found[0]].requests == yard.loads[found[1]].requests


def test_kv_aware_weighs_prefill_against_load() -> None:
    yard = Yard(2, **caches({0: {1: 80}}))
    yard.set(1, 1)  # 150 tokens to go, where 80 of 100 are cached
    assert KvAware().start(yard.targets)(0) == 0
    assert KvAware(weight=2).start(yard.targets)(0) == 1
    yard.loads[1].cached_tokens = 80  # of those 150 as many are shared
    yard.set(1, 1)
    assert KvAware().start(yard.targets)(0) == 1


def test_what_was_cached_is_counted_out_as_it_was_counted_in() -> None:
    prefix = {"kind": "shared_system_prompt", "tokens": 400, "num_prompts": 3}
    scenario = toy.scenario(
        deployment={"replicas": 3, "router": "kv_aware"},
        workload={"arrivals": {"kind": "poisson", "rate": "20 req/s"}, "num_requests": 60, "prefix": prefix},
    )
    world = World(scenario, 1, plan(scenario), None)
    loads, seen = world.fronts[0].loads, list[int]()
    world.fronts[0].targets.watchers.append(lambda index: seen.append(loads[index].cached_tokens))
    world.run()
    assert max(seen) >= 384
    assert all(each >= 0 for each in seen)
    assert [(load.requests, load.tokens, load.cached_tokens) for load in loads] == [(0, 0, 0)] * 3


# ---- sessions -----------------------------------------------------------------------------------------------------


def test_a_session_stays_until_its_target_goes_down() -> None:
    yard = Yard(3, session=lambda request: request % 5)
    choose = SessionAffine().start(yard.targets)
    homes = {request: yard.send(choose, request) for request in range(5)}
    assert set(homes.values()) == {0, 1, 2}
    yard.set(0, 100)
    assert {request: choose(request + 5) for request in range(5)} == homes, "however loaded"
    yard.set(0, up=False)
    moved = {request: yard.send(choose, request + 10) for request in range(5)}
    assert {request for request in range(5) if moved[request] != homes[request]} == {
        request for request in range(5) if homes[request] == 0
    }
    yard.set(0, up=True)
    assert {request: choose(request + 15) for request in range(5)} == moved, "it does not come back"


def test_equal_beginnings_go_to_one_target_and_few_move_when_one_goes() -> None:
    yard = Yard(20, key=lambda request: request)
    choose = SessionAffine(bound=1000.0).start(yard.targets)
    before = {key: choose(key) for key in range(1000)}
    assert {key: choose(key) for key in range(1000)} == before
    shares = np.bincount(list(before.values()), minlength=20)
    assert shares.min() > 15
    yard.set(7, up=False)
    after = {key: choose(key) for key in range(1000)}
    assert {key for key in before if before[key] != after[key]} == {key for key in before if before[key] == 7}
    yard.set(7, up=True)
    assert {key: choose(key) for key in range(1000)} == before


def test_hashing_fills_no_target_above_its_bound() -> None:
    yard = Yard(10, key=lambda request: request % 3)
    choose = SessionAffine(bound=1.25).start(yard.targets)
    for request in range(400):
        yard.send(choose, request)
        most = max(load.requests for load in yard.loads)
        assert most <= np.ceil(1.25 * (request + 1) / 10)


# ---- prices and promises ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("router", [CostAware(max_requests=3), CarbonAware(max_requests=3)])
def test_the_thriftiest_is_filled_first(router: Router) -> None:
    facts = [
        Facts(usd_per_s=usd, gco2e_per_s=usd, requests_per_s=speed)
        for usd, speed in ((3, 1), (1, 1), (2, 2), (4, 1))
    ]
    yard = Yard(4, facts=facts)
    choose = router.start(yard.targets)
    went = [yard.send(choose, request) for request in range(14)]
    assert went[:12] == [1, 2, 1, 2, 1, 2, 0, 0, 0, 3, 3, 3], "by price a request, of equals the least loaded"
    assert went[12:] == [0, 1], "all full: the least loaded"
    yard.set(1, 0)
    yard.set(1, up=False)
    yard.set(2, 1)
    assert choose(14) == 2


def test_the_cheapest_that_breaks_its_promise_is_passed_over() -> None:
    facts = [Facts(100.0, usd_per_s=usd) for usd in (1, 2)]
    waits = [0.0, 0.0]
    yard = Yard(
        2, facts=facts, queue_s=lambda at: waits[at], ttft_limit_s=lambda request: 2.0 + 1000 * request
    )
    for router in (CostAware(), SloAware(prefer="cheapest")):
        choose = router.start(yard.targets)
        waits[:] = [1.0, 0.0]
        assert choose(0) == 0
        waits[0] = 1.1
        assert choose(0) == 1
        assert choose(1) == 0, "it was promised less"
        waits[1] = 9.0
        assert choose(0) == 0, "none keeps it: the least loaded, or the first to answer"
    assert CostAware(keep_promise=False).start(yard.targets)(0) == 0


def test_slo_aware_adds_up_way_queue_and_own_prefill() -> None:
    facts = [Facts(100.0), Facts(1000.0, latency_s=0.5), Facts(50.0)]
    queue = [0.0, 0.3, 0.0]
    yard = Yard(3, facts=facts, queue_s=lambda at: queue[at], **caches({1: {2: 99}}))
    choose = SloAware().start(yard.targets)
    assert yard.targets.predicted_ttft_s(0, 1) == pytest.approx(0.9)
    assert choose(0) == 1
    assert choose(1) == 2, "all but one token is cached: 20 ms"
    queue[1] = 0.5
    assert choose(0) == 0
    one = Yard(3, facts=facts, queue_s=lambda at: queue[at])
    choose = SloAware(sample=2).start(one.targets)
    assert {choose(0) for _ in range(50)} == {0, 1}, "the worst of three is never the better of two"


# ---- weights ------------------------------------------------------------------------------------------------------


def test_weights_are_kept_to_at_any_time() -> None:
    facts = [Facts(requests_per_s=speed, num_replicas=num) for speed, num in ((1, 1), (1, 2), (2.5, 2))]
    yard = Yard(3, facts=facts)
    choose = Weighted().start(yard.targets)
    went = np.array([choose(request) for request in range(800)])
    shares = np.array([1, 2, 5]) / 8
    for index in range(3):
        counts = np.cumsum(went == index)
        assert np.abs(counts - shares[index] * np.arange(1, 801)).max() <= 1.5
    np.testing.assert_array_equal(np.bincount(went), 800 * shares)


def test_one_that_was_down_does_not_catch_up() -> None:
    yard = Yard(2)
    choose = Weighted().start(yard.targets)
    yard.set(0, up=False)
    assert {choose(request) for request in range(100)} == {1}
    yard.set(0, up=True)
    assert sum(choose(request) for request in range(10)) in (4, 5, 6)


def test_weights_name_deployments() -> None:
    given = Weighted(weights={"old": 1, "new": 3})
    assert not list(given.problems(["old", "new"]))
    assert "has none for newer" in " ".join(given.problems(["old", "new", "newer"]))
    assert (
        'did you mean "old"'
        in " ".join(Weighted(weights={"odl": 1, "new": 1}).problems(["old", "new"])).lower()
    )
    with pytest.raises(InputError, match="replicas of one deployment are equal"):
        plan(
            toy.scenario(deployment={"replicas": 2, "router": {"kind": "weighted", "weights": {"serve": 2}}})
        )
