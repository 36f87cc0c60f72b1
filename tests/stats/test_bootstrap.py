import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapwing.core.errors import LapwingError, UserError
from lapwing.core.rng import generator
from lapwing.stats.bootstrap import bootstrap


def test_two_values_by_hand():
    #   means of two draws from {0, 1}: 0 with ¼, ½ with ½, 1 with ¼
    #   the quantiles 0.025 and 0.975 are 0 and 1, the quantiles 0.4 and 0.6 both ½
    assert bootstrap(np.array([0, 1])) == (0.5, 0.0, 1.0)
    assert bootstrap(np.array([0, 1]), confidence=0.2) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("method", ["percentile", "BCa"])
@pytest.mark.parametrize("values", [[3.0], [2.5, 2.5, 2.5]], ids=["one value", "equal values"])
def test_values_without_spread_give_a_width_of_zero_and_no_warning(values, method):
    assert bootstrap(np.array(values), method=method) == (values[0], values[0], values[0])


def test_the_same_values_give_the_same_interval_and_another_key_another_one():
    values = np.random.default_rng(0).normal(size=20)
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values, rng=generator("other")) != bootstrap(values)


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_the_interval_covers_the_true_mean_about_as_often_as_it_says(method):
    # Fails when the quantiles are of the values instead of their means (then it would always cover).
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        _, low, high = bootstrap(rng.normal(3.0, 2.0, size=40), confidence=0.8, resamples=300, method=method)
        covered += low <= 3.0 <= high
    # Standard error √(0.8 · 0.2 / 200) = 0.028.
    assert abs(covered / 200 - 0.8) < 4 * 0.028


@settings(max_examples=25)
@given(st.lists(st.integers(-5, 5), min_size=2, max_size=12), st.sampled_from(["percentile", "BCa"]))
def test_the_bounds_are_finite_and_lie_within_the_values(values, method):
    mean, low, high = bootstrap(np.array(values), resamples=200, method=method)
    assert min(values) <= low <= high <= max(values)
    assert mean == pytest.approx(np.mean(values))


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [np.inf, 0.0]])
def test_nothing_and_non_finite_values_are_refused(values):
    with pytest.raises(LapwingError, match="at least one value, and finite ones"):
        bootstrap(np.array(values))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"confidence": 1.0}, "confidence"),
        ({"resamples": 10}, "resamples must be at least 100"),
        ({"method": "basic"}, "no bootstrap method 'basic'; valid names: percentile, BCa"),
    ],
)
def test_wrong_settings_are_refused_with_one_sentence(settings, message):
    with pytest.raises(UserError, match=message):
        bootstrap(np.array([0.0, 1.0]), **settings)
