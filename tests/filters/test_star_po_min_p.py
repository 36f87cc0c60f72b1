import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.filters.star_po_min_p import star_po_min_p
from lapwing.testing import episodes


def pairs(*spreads):
    """A group of two for each number, whose returns have that sample standard deviation."""
    rewards = [[sign * u / np.sqrt(2)] for u in spreads for sign in (1, -1)]
    return episodes(rewards, group=list(np.repeat(np.arange(len(spreads)), 2)))


def kept(keep):
    return list(np.flatnonzero(keep[::2]))


def test_groups_by_hand():
    #   u = 0, .5, .1, .4: at least half of .5;  at least a fifth of it;  all of it
    assert kept(star_po_min_p(pairs(0, 0.5, 0.1, 0.4))) == [1, 3]
    assert kept(star_po_min_p(pairs(0, 0.5, 0.1, 0.4), share=0.2)) == [1, 2, 3]
    assert kept(star_po_min_p(pairs(0, 0.5, 0.1, 0.4), share=1.0)) == [1]


def test_if_nothing_has_spread_nothing_is_kept():
    assert not star_po_min_p(pairs(0, 0)).any()
    assert not star_po_min_p(episodes([[1], [2]], group=[0, 1])).any()


def test_the_same_returns_in_another_order_are_equally_wide():
    # Their standard deviations differ in the last bit.
    batch = episodes([[0.1], [0.7], [0.3], [0.1], [0.3], [0.7]], group=[0] * 3 + [1] * 3)
    assert star_po_min_p(batch, share=1.0).all()


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8), st.sampled_from([0.25, 0.5, 1.0]))
def test_it_agrees_with_the_definition(spreads, share):
    expected = [g for g, u in enumerate(spreads) if u > 0 and u >= share * max(spreads)]
    assert kept(star_po_min_p(pairs(*spreads), share=share)) == expected


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(UserError, match="share must be in"):
        star_po_min_p(pairs(1), share=share)
