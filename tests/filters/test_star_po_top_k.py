import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.filters.star_po_top_k import star_po_top_k
from lapwing.testing import episodes


def pairs(*spreads):
    """A group of two for each number, whose returns have that sample standard deviation."""
    rewards = [[sign * u / np.sqrt(2)] for u in spreads for sign in (1, -1)]
    return episodes(rewards, group=list(np.repeat(np.arange(len(spreads)), 2)))


def kept(keep):
    return list(np.flatnonzero(keep[::2]))


def test_the_published_case_by_hand():
    #   u = 0, .5, .1, .4: the largest quarter of four groups is group 1
    assert kept(star_po_top_k(pairs(0, 0.5, 0.1, 0.4))) == [1]
    assert kept(star_po_top_k(pairs(0, 0.5, 0.1, 0.4), share=0.5)) == [1, 3]
    assert kept(star_po_top_k(pairs(0, 0.5, 0.1, 0.4), share=1.0)) == [0, 1, 2, 3]


def test_the_number_of_groups_is_rounded_down_but_at_least_one():
    assert kept(star_po_top_k(pairs(1, 2, 3), share=0.9)) == [1, 2]
    assert kept(star_po_top_k(pairs(1, 2, 3), share=0.1)) == [2]
    #   0.29 · 100 is 28.999… in floating point
    assert len(kept(star_po_top_k(pairs(*range(100)), share=0.29))) == 29


def test_one_group_is_kept_even_if_nothing_has_spread():
    np.testing.assert_array_equal(star_po_top_k(episodes([[1], [1], [2]], group=[7, 7, 3])), [False, False, True])


def test_the_whole_group_is_kept_the_outcome_counts_and_the_deviation_has_ddof_1():
    #   group 0: 0, 1, 1, std .5774 (ddof 0: .4714);  group 1: 0, .8, std .5657 (ddof 0: .4)
    batch = episodes([[0], [0], [1], [0], [0]], group=[0, 1, 0, 1, 0], outcome=[0, 0, 0, 0.8, 1])
    np.testing.assert_array_equal(star_po_top_k(batch, share=0.5), [True, False, True, False, True])
    #   group 1: 0, .7, .7: std .4041 (ddof 0: .33); group 0: 0, .6: std .4243 (ddof 0: .3)
    batch = episodes([[0], [0.6], [0], [0.7], [0.7]], group=[0, 0, 1, 1, 1])
    np.testing.assert_array_equal(star_po_top_k(batch, share=0.5), [True, True, False, False, False])


def test_the_same_returns_in_another_order_tie_and_the_smaller_group_goes_first():
    # Their standard deviations differ in the last bit.
    first, second = [0.1, 0.7, 0.3], [0.1, 0.3, 0.7]
    for returns in ([*first, *second], [*second, *first]):
        batch = episodes([[r] for r in returns], group=[1] * 3 + [0] * 3)
        np.testing.assert_array_equal(star_po_top_k(batch, share=0.5), [False] * 3 + [True] * 3)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.floats(0.01, 1.0))
def test_no_group_that_is_left_out_has_more_spread_than_one_that_is_kept(spreads, share):
    keep = kept(star_po_top_k(pairs(*spreads), share=share))
    assert len(keep) == max(1, int(share * len(spreads) + 1e-9))
    left_out = [u for g, u in enumerate(spreads) if g not in keep]
    assert max(left_out, default=0) <= min(spreads[g] for g in keep)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(UserError, match="share must be in"):
        star_po_top_k(pairs(1), share=share)
