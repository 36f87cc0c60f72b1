import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.pairing.by_return import by_return
from lapwing.testing import episodes

#   returns 1, 3, 0 in group 5; 2, 2 in group 3; 7 alone
BATCH = episodes([[1], [2], [1, 1], [0], [2], [7]], group=[5, 3, 5, 5, 3, 8], outcome=[0, 0, 1, 0, 0, 0])


def test_the_best_of_a_group_against_its_worst(listed):
    # Fails when a group of one, or of equal returns, makes a pair, or the outcome is forgotten.
    assert listed(by_return(BATCH)) == [(2, 3, 1.0, 3.0)]
    assert by_return(BATCH).batch is BATCH


def test_all_pairs_of_a_group(listed):
    assert listed(by_return(BATCH, every=True)) == [(0, 3, 1.0, 1.0), (2, 0, 1.0, 2.0), (2, 3, 1.0, 3.0)]
    assert listed(by_return(BATCH, every=True, weighted=True))[0] == (0, 3, 1.0, 1.0)
    assert [row[2] for row in listed(by_return(BATCH, every=True, weighted=True))] == [1.0, 2.0, 3.0]


def test_pairs_that_hardly_differ_are_left_out(listed):
    assert [row[:2] for row in listed(by_return(BATCH, every=True, min_gap=2.0))] == [(2, 0), (2, 3)]
    assert listed(by_return(BATCH, min_gap=3.5)) == []


def test_of_equal_episodes_the_first_stands_for_them(listed):
    batch = episodes([[0], [1], [0], [1]])
    assert [row[:2] for row in listed(by_return(batch))] == [(1, 0)]


def test_rounding_is_no_preference():
    #   .1 + .2 + .3 and .3 + .2 + .1 differ by 10⁻¹⁶
    batch = episodes([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]])
    assert by_return(batch).num_pairs == by_return(batch, every=True).num_pairs == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 3)), min_size=1, max_size=12), st.integers(0, 3))
def test_it_agrees_with_the_definition(drawn, min_gap):
    batch = episodes([[r] for _, r in drawn], group=[g for g, _ in drawn])
    expected = {
        (i, j)
        for i, (g, r) in enumerate(drawn)
        for j, (h, s) in enumerate(drawn)
        if g == h and r - s >= max(min_gap, 1)
    }
    found = by_return(batch, every=True, min_gap=float(min_gap))
    assert set(zip(found.chosen.tolist(), found.rejected.tolist(), strict=True)) == expected
    assert found.num_pairs == len(expected)
    best = by_return(batch, min_gap=float(min_gap))
    assert set(zip(best.chosen.tolist(), best.rejected.tolist(), strict=True)) <= expected
    np.testing.assert_array_equal(np.unique(batch.group[best.chosen]), np.unique(batch.group[found.chosen]))


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=8), st.integers(-50, 50))
def test_a_shift_of_all_returns_changes_nothing(returns, shift):
    one = by_return(episodes([[r] for r in returns]), every=True, weighted=True)
    other = by_return(episodes([[r] for r in returns], outcome=[shift] * len(returns)), every=True, weighted=True)
    for name in ("chosen", "rejected", "weight", "margin"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("gap", [-0.1, float("nan")])
def test_a_negative_gap_is_refused(gap):
    with pytest.raises(UserError, match="min_gap must be at least 0"):
        by_return(BATCH, min_gap=gap)
