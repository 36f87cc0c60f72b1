import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lapwing.credit.dr_grpo import dr_grpo
from lapwing.testing import episodes


def test_two_groups_by_hand():
    # Fails when the group baseline is removed, or when the advantage is divided by the standard deviation.
    batch = episodes([[0, 1], [0], [5]], group=[7, 7, 8])
    #   group 7: returns 1 and 0, mean ½;  group 8: alone, so 0
    np.testing.assert_allclose(dr_grpo(batch), [0.5, 0.5, -0.5, 0.0])


def test_published_numbers():
    np.testing.assert_allclose(dr_grpo(episodes([[1], [0], [0], [0]])), [0.75, -0.25, -0.25, -0.25])


def test_equal_returns_give_exactly_zero_whatever_the_rounding_of_the_mean():
    np.testing.assert_array_equal(dr_grpo(episodes([[0.1]] * 3)), [0, 0, 0])


@given(st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=4), min_size=1, max_size=6), st.integers(-9, 9))
def test_the_advantages_of_a_group_sum_to_zero_and_ignore_a_shift(rewards, shift):
    batch = episodes(rewards, outcome=[shift] * len(rewards))
    advantage = dr_grpo(batch)
    np.testing.assert_allclose(advantage[batch.step_splits[:-1]].sum(), 0, atol=1e-9)
    np.testing.assert_allclose(advantage, dr_grpo(episodes(rewards)), atol=1e-9)
