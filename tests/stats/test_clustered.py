"""Intervals over clusters, by hand, against those of independent trials, and by how often they cover."""

import numpy as np
import pytest

from lapwing.core.errors import LapwingError, UserError
from lapwing.stats.bootstrap import bootstrap
from lapwing.stats.clustered import clustered_mean, clustered_share
from lapwing.stats.wilson import score_interval, wilson


def test_the_worth_of_clusters_by_hand():
    #   s = 2, 1, 0 of m = 2, 2, 2: p = 1/2, v = 3/2 · (1 + 0 + 1) / 36 = 1/12, n* = 1/4 · 12 = 3, within 3 … 6
    assert clustered_share(np.array([2, 1, 0]), np.array([2, 2, 2])) == score_interval(0.5, 3.0)
    #   s = 2, 1, 1, 0: v = 4/3 · 2 / 64 = 1/24, n* = 6, within 4 … 8
    found = clustered_share(np.array([2, 1, 1, 0]), np.array([2, 2, 2, 2]))
    assert found == pytest.approx(score_interval(0.5, 6.0))
    #   All alike: v = 0, and n* is the most.
    assert clustered_share(np.array([1, 1, 1]), np.array([2, 2, 2])) == wilson(3, 6)
    assert clustered_share(np.array([1, 1, 1]), np.array([2, 2, 2]), most=4) == score_interval(0.5, 4)
    #   All won: each cluster is one trial; of sizes 6, 2 it is 64 / 40.
    assert clustered_share(np.array([2, 2, 2]), np.array([2, 2, 2])) == wilson(3, 3)
    assert clustered_share(np.array([6, 2]), np.array([6, 2])) == score_interval(1.0, 1.6)


def test_clusters_of_one_value_are_the_bootstrap():
    values = np.random.default_rng(0).normal(size=60)
    found, plain = clustered_mean(values, np.ones(60)), bootstrap(values)
    assert found.mean == pytest.approx(plain.mean)
    assert found.low == pytest.approx(plain.low, abs=0.03)
    assert found.high == pytest.approx(plain.high, abs=0.03)
    assert clustered_mean(values, np.ones(60)) == found


def test_a_cluster_that_is_repeated_makes_nothing_narrower():
    values = np.random.default_rng(1).normal(size=25)
    once, often = clustered_mean(values, np.ones(25)), clustered_mean(50 * values, np.full(25, 50))
    assert often == pytest.approx(once)


@pytest.mark.parametrize("shared", [0.0, 0.7, 1.0])
def test_the_interval_covers_the_truth(shared):
    # Two trials a cluster, which with this probability are the same one.
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(1500):
        first = rng.random(40) < 0.3
        second = np.where(rng.random(40) < shared, first, rng.random(40) < 0.3)
        found = clustered_share(first.astype(int) + second, np.full(40, 2))
        covered += found.low <= 0.3 <= found.high
    # 0.95 with a standard error of 0.0056; with 80 independent trials it would be 0.83 where all is shared.
    assert 0.93 <= covered / 1500 <= 0.98


@pytest.mark.parametrize(
    ("successes", "sizes"), [([1], [2]), ([3, 0], [2, 2]), ([-1, 0], [2, 2]), ([1, 1], [0, 2]), ([1, 1], [2])]
)
def test_impossible_counts_are_refused(successes, sizes):
    with pytest.raises(LapwingError):
        clustered_share(np.array(successes), np.array(sizes))


def test_what_has_no_mean_is_refused():
    with pytest.raises(LapwingError, match="finite"):
        clustered_mean(np.array([1.0, np.nan]), np.ones(2))
    with pytest.raises(UserError, match="confidence"):
        clustered_mean(np.ones(2), np.ones(2), confidence=1.0)
