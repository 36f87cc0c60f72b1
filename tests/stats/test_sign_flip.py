import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapwing.core.errors import LapwingError
from lapwing.core.rng import generator
from lapwing.stats.sign_flip import sign_flip, smallest_p


def test_three_pairs_by_hand():
    #   |±1 ± 2 ± 4| ≥ 5 for 1 + 4 + 2 and −1 + 2 + 4 and their negatives: of the 8 patterns 7, 5, −7, −5
    assert sign_flip(np.array([-1.0, 2.0, 4.0])) == 4 / 8
    assert sign_flip(np.array([1.0, 2.0, 4.0])) == 2 / 8


@pytest.mark.parametrize("pairs", [1, 2, 3, 8, 16])
def test_equal_signs_reach_the_smallest_p(pairs):
    assert sign_flip(0.1 * np.arange(1, pairs + 1)) == pytest.approx(smallest_p(pairs), rel=1e-12)


@pytest.mark.parametrize(("pairs", "expected"), [(1, 1.0), (3, 0.25), (5, 0.0625), (6, 0.03125), (8, 0.0078125)])
def test_the_smallest_p_by_hand(pairs, expected):
    assert smallest_p(pairs) == expected


def test_beyond_sixteen_pairs_the_number_of_resamples_bounds_p():
    assert smallest_p(17) == 2e-5
    assert smallest_p(17, resamples=10**9) == 2.0**-16
    assert sign_flip(np.ones(40)) == pytest.approx(smallest_p(40))


@pytest.mark.parametrize("differences", [[0.0, 0.0, 0.0], [1.0, -1.0], [7.0]], ids=["all equal", "even", "one pair"])
def test_what_shows_nothing_has_a_p_of_one(differences):
    assert sign_flip(np.array(differences)) == 1.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=7))
def test_as_a_loop_over_all_patterns_counts_it(differences):
    d = np.array(differences, dtype=float)
    means = [abs(np.dot(signs, d)) for signs in itertools.product([-1, 1], repeat=len(d))]
    expected = np.mean([mean >= abs(d.sum()) - 1e-9 for mean in means])
    assert sign_flip(d) == pytest.approx(expected)
    assert sign_flip(-d) == pytest.approx(expected)


def test_sampled_patterns_agree_with_all_of_them():
    d = np.random.default_rng(0).normal(0.4, 1.0, size=17)
    signs = np.array(list(itertools.product([-1, 1], repeat=17)))
    exact = np.mean(np.abs(signs @ d) >= abs(d.sum()) - 1e-12)
    # Two-sided p is twice a share of 99,999 draws: standard error 2 √(p/2 / 10⁵).
    assert abs(sign_flip(d) - exact) < 4 * 2 * np.sqrt(exact / 2 / 1e5)
    assert sign_flip(d) == sign_flip(d)
    assert sign_flip(d, rng=generator("a")) != sign_flip(d)


def test_of_equal_methods_a_twentieth_is_called_different():
    # Fails for a one-sided p, or one that forgets half of the patterns: 10 %.
    rng = np.random.default_rng(1)
    p = np.array([sign_flip(rng.normal(size=8)) for _ in range(400)])
    # At n = 8 the level 0.05 means 12 of 256 patterns, 0.047; standard error 0.011.
    assert abs(np.mean(p <= 0.05) - 0.047) < 3 * 0.011


@pytest.mark.parametrize("differences", [[], [np.nan, 1.0]])
def test_nothing_and_non_finite_differences_are_refused(differences):
    with pytest.raises(LapwingError, match="at least one difference, and finite ones"):
        sign_flip(np.array(differences))
    with pytest.raises(LapwingError, match="at least one pair"):
        smallest_p(0)
