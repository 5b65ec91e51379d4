import numpy as np
import pytest

from clustersim.randomness import replication_seed, stream


def test_same_names_give_the_same_numbers_and_others_do_not():
    first = stream(1, "chat", "arrivals").random(8)
    assert (first == stream(1, "chat", "arrivals").random(8)).all()
    for other in (
        stream(2, "chat", "arrivals"),
        stream(1, "chat", "lengths"),
        stream(1, "chatarrivals"),
        stream(1),
    ):
        assert not np.isin(first, other.random(8)).any()


def test_the_stream_is_the_same_on_every_machine():
    assert stream(7, "arrivals").integers(1 << 32) == 3049032227


def test_streams_are_uncorrelated():
    draws = np.array([stream(0, "failures", str(index)).random(2000) for index in range(40)])
    correlation = np.corrcoef(draws) - np.eye(40)
    assert np.abs(correlation).max() < 5 / np.sqrt(2000)


def test_replications_have_seeds_of_their_own_and_the_first_is_the_run_itself():
    seeds = [replication_seed(5, index) for index in range(100)]
    assert seeds[0] == 5
    assert len(set(seeds)) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_negative_seeds_and_indices_are_refused():
    with pytest.raises(ValueError, match="zero or more"):
        stream(-1, "a")
    with pytest.raises(ValueError, match="count from 0"):
        replication_seed(1, -1)
