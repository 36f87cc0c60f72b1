import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lapwing.core.errors import LapwingError, UserError
from lapwing.core.rng import generator
from lapwing.stats.probability_of_improvement import probability_of_improvement


def test_three_against_two_by_hand():
    #   1 beats 0 and ties 1: 1½ of 2; 0 ties 0 and loses: ½ of 2; 2 beats both: 2 of 2
    found = probability_of_improvement(np.array([1, 0, 2]), np.array([0, 1]))
    assert found.value == pytest.approx((1.5 + 0.5 + 2) / 6)
    assert 0 <= found.low < found.value < found.high <= 1


def test_the_mean_is_over_tasks():
    #   task 1: always better, 1; task 2: always worse, 0
    assert probability_of_improvement(np.array([[1, 0], [2, 1]]), np.array([[0, 5], [0, 6]])) == (0.5, 0.5, 0.5)


def test_as_rliable_computes_it():
    # rliable 1.2.0: library.get_interval_estimates({"a": (x[:, None], y[:, None])},
    #   lambda x, y: np.array([metrics.probability_of_improvement(x, y)]), reps=5_000)
    x = np.array([0.61, 0.93, 0.95, 0.96, 0.97, 0.97, 0.98, 1.0])
    y = np.array([0.55, 0.60, 0.93, 0.94, 0.95, 0.95, 0.96, 0.97])
    np.testing.assert_allclose(probability_of_improvement(x, y), (0.734375, 0.4609375, 0.953125), atol=0.01)


def test_equal_methods_are_at_a_half():
    scores = np.array([1.0, 2.0, 3.0])
    assert probability_of_improvement(scores, scores).value == 0.5
    assert probability_of_improvement(np.ones(4), np.ones(4)) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(("seeds", "others"), [(1, 1), (1, 3), (3, 1)])
def test_one_seed_of_a_method(seeds, others):
    found = probability_of_improvement(np.ones(seeds), np.arange(others) + 1.5)
    assert found == (0.0, 0.0, 0.0)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_it_is_the_mann_whitney_statistic(first, second):
    x, y = np.array(first), np.array(second)
    expected = stats.mannwhitneyu(x, y).statistic / (len(x) * len(y))
    found = probability_of_improvement(x, y, resamples=100)
    assert found.value == pytest.approx(expected)
    assert probability_of_improvement(y, x, resamples=100).value == pytest.approx(1 - expected)


def test_the_same_scores_give_the_same_interval_and_another_key_another_one():
    x, y = np.random.default_rng(0).normal(size=(2, 12))
    assert probability_of_improvement(x, y) == probability_of_improvement(x, y)
    assert probability_of_improvement(x, y, rng=generator("a")) != probability_of_improvement(x, y)


def test_other_tasks_are_refused():
    with pytest.raises(LapwingError, match="found 2 and 1 tasks"):
        probability_of_improvement(np.ones((3, 2)), np.ones(3))
    with pytest.raises(LapwingError, match="finite numbers"):
        probability_of_improvement(np.ones(3), np.array([np.inf]))
    with pytest.raises(UserError, match="resamples"):
        probability_of_improvement(np.ones(3), np.ones(3), resamples=1)
