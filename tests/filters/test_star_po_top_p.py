import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.filters.star_po_top_p import star_po_top_p
from lapwing.filters.zero_spread import zero_spread
from lapwing.testing import episodes


def pairs(*spreads):
    """A group of two for each number, whose returns have that sample standard deviation."""
    rewards = [[sign * u / np.sqrt(2)] for u in spreads for sign in (1, -1)]
    return episodes(rewards, group=list(np.repeat(np.arange(len(spreads)), 2)))


def kept(keep):
    return list(np.flatnonzero(keep[::2]))


def test_the_published_case_by_hand():
    # Fails when the tolerance is dropped and rounding lets .5 + .4 miss .9, or groups are taken in their order.
    #   u = 0, .5, .1, .4: threshold .9 · 1 − .01 = .89 ≤ .5 + .4
    assert kept(star_po_top_p(pairs(0, 0.5, 0.1, 0.4))) == [1, 3]
    assert kept(star_po_top_p(pairs(0, 0.5, 0.1, 0.4), tolerance=0.0)) == [1, 3]
    assert kept(star_po_top_p(pairs(0, 0.5, 0.1, 0.4), share=0.95, tolerance=0.0)) == [1, 2, 3]
    assert kept(star_po_top_p(pairs(0, 0.5, 0.1, 0.4), share=0.5)) == [1]


def test_a_sum_that_misses_the_threshold_by_rounding_reaches_it():
    #   .3 is half of .3 + .2 + .1, but as standard deviations in floating point it is less
    assert kept(star_po_top_p(pairs(0.3, 0.2, 0.1), share=0.5, tolerance=0.0)) == [0]


def test_a_share_of_1_keeps_all_that_has_spread():
    assert kept(star_po_top_p(pairs(0.1, 0, 0.2, 0.3, 0.7), share=1.0, tolerance=0.0)) == [0, 2, 3, 4]


def test_if_nothing_has_spread_nothing_is_kept():
    for form in ("linear", "softmax"):
        assert not star_po_top_p(pairs(0, 0, 0), form=form).any()
        assert not star_po_top_p(episodes([[1], [2]], group=[0, 1]), form=form).any()


def test_a_batch_with_next_to_no_spread_keeps_nothing():
    #   .9 · .01 − .01 < 0: no group is needed;  .9 · .02 − .01 = .008: one is
    assert kept(star_po_top_p(pairs(0.005, 0.005))) == []
    assert kept(star_po_top_p(pairs(0.01, 0.01))) == [0]


def test_the_softmax_form_by_hand():
    #   u = ln 1, ln 2 (no ln 1: its spread is 0), ln 6: shares of e^u are 2/8 and 6/8
    batch = pairs(0, np.log(2), np.log(6))
    assert kept(star_po_top_p(batch, share=0.75, form="softmax")) == [2]
    assert kept(star_po_top_p(batch, share=0.8, form="softmax")) == [1, 2]
    #   large spreads do not overflow
    assert kept(star_po_top_p(pairs(5000, 1), form="softmax")) == [0]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_with_share_1_and_no_tolerance_it_is_zero_spread(spreads):
    batch = pairs(*spreads)
    for form in ("linear", "softmax"):
        keep = star_po_top_p(batch, share=1.0, tolerance=0.0, form=form)
        np.testing.assert_array_equal(keep, zero_spread(batch))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.floats(0.05, 1.0))
def test_it_agrees_with_the_definition(spreads, share):
    ranked = sorted((u for u in spreads if u > 0), reverse=True)
    total, number = 0.0, 0
    threshold = share * sum(ranked) - 0.01
    while total < threshold - 1e-9:
        total += ranked[number]
        number += 1
    keep = kept(star_po_top_p(pairs(*spreads), share=share))
    assert sorted((spreads[g] for g in keep), reverse=True) == ranked[:number]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"share": 0.0}, "share must be in"),
        ({"tolerance": -0.1}, "tolerance must be at least 0"),
        ({"form": "hard"}, "no form 'hard'"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        star_po_top_p(pairs(1), **settings)
