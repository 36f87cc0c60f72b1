import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.dr_grpo import dr_grpo
from lapwing.credit.group_return_to_go import group_return_to_go
from lapwing.testing import episodes


def test_three_members_of_different_length_by_hand():
    # Fails when the group baseline is removed, or taken over all members instead of those alive.
    batch = episodes([[1, 2, 4], [0, 1], [3]])
    #   to go:   t = 0: 7, 1, 3 (mean 11/3)     t = 1: 6, 1 (mean 7/2)     t = 2: 4, alone, so 0
    expected = [7 - 11 / 3, 5 / 2, 0, 1 - 11 / 3, -5 / 2, 3 - 11 / 3]
    np.testing.assert_allclose(group_return_to_go(batch), expected)


def test_the_discount_applies_before_the_mean():
    #   γ = ½:  to go 0 + ½·4 = 2 and 4 against 1 + ½·2 = 2 and 2;  t = 0: equal, 0;  t = 1: 4 − 3, 2 − 3
    batch = episodes([[0, 4], [1, 2]])
    np.testing.assert_array_equal(group_return_to_go(batch, discount=0.5), [0, 1, 0, -1])


def test_the_outcome_counts():
    np.testing.assert_allclose(group_return_to_go(episodes([[0, 0], [0, 0]], outcome=[1, 0])), [0.5, 0.5, -0.5, -0.5])


def test_groups_are_kept_apart_also_at_the_same_step_index():
    batch = episodes([[0], [10], [1], [20]], group=[5, 6, 5, 6])
    np.testing.assert_allclose(group_return_to_go(batch), [-0.5, -5, 0.5, 5])


def test_a_group_of_one_gives_exactly_zero():
    np.testing.assert_array_equal(group_return_to_go(episodes([[0.1, 0.7]])), [0, 0])


def test_equal_returns_to_go_give_exactly_zero_whatever_the_rounding_of_the_mean():
    # The float mean of three times 0.1 is not 0.1.
    np.testing.assert_array_equal(group_return_to_go(episodes([[0.1]] * 3)), [0, 0, 0])


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=6))
def test_with_one_step_per_episode_it_is_dr_grpo(returns):
    batch = episodes([[r] for r in returns])
    np.testing.assert_allclose(group_return_to_go(batch), dr_grpo(batch), atol=1e-12)


@given(st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=1, max_size=6), st.integers(-9, 9))
def test_a_constant_added_to_every_outcome_changes_nothing(rewards, shift):
    plain = episodes(rewards, outcome=[0] * len(rewards))
    shifted = episodes(rewards, outcome=[shift] * len(rewards))
    np.testing.assert_allclose(group_return_to_go(shifted), group_return_to_go(plain), atol=1e-12)


@given(st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=1, max_size=6))
def test_the_members_alive_at_a_step_index_sum_to_zero(rewards):
    batch = episodes(rewards)
    step_index = np.concatenate([np.arange(len(r)) for r in rewards])
    np.testing.assert_allclose(np.bincount(step_index, group_return_to_go(batch)), 0, atol=1e-12)


def test_a_discount_outside_zero_to_one_is_refused():
    with pytest.raises(UserError, match="discount"):
        group_return_to_go(episodes([[1]]), discount=2)
