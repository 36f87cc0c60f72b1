import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lapwing.credit.dr_grpo import dr_grpo
from lapwing.credit.rloo import rloo
from lapwing.testing import episodes

returns_of_a_group = st.lists(st.integers(-5, 5), min_size=2, max_size=6)


def test_three_episodes_by_hand():
    # Fails when the baseline contains the episode's own return.
    #   returns 3, 0, 3:  3 − (0 + 3)/2 = 1.5,  0 − (3 + 3)/2 = −3,  3 − (3 + 0)/2 = 1.5
    np.testing.assert_allclose(rloo(episodes([[1, 2], [0], [3]])), [1.5, 1.5, -3, 1.5])


def test_published_numbers():
    np.testing.assert_allclose(rloo(episodes([[1], [0], [0], [0]])), [1, -1 / 3, -1 / 3, -1 / 3])
    np.testing.assert_allclose(rloo(episodes([[1], [0], [0], [1]])), [2 / 3, -2 / 3, -2 / 3, 2 / 3])


def test_groups_of_different_size_are_kept_apart():
    #   group 0: 4 and 0, each against the other;  group 1: alone, so 0
    np.testing.assert_allclose(rloo(episodes([[4], [9], [0]], group=[0, 1, 0])), [4, 0, -4])


def test_equal_returns_give_exactly_zero_whatever_the_rounding_of_the_mean():
    np.testing.assert_array_equal(rloo(episodes([[0.1]] * 3)), [0, 0, 0])


@given(returns_of_a_group)
def test_it_is_dr_grpo_times_g_over_g_minus_one(returns):
    batch = episodes([[r] for r in returns])
    size = len(returns)
    np.testing.assert_allclose(rloo(batch), dr_grpo(batch) * size / (size - 1), atol=1e-9)


@given(returns_of_a_group)
def test_it_agrees_with_the_definition(returns):
    others = [np.mean(returns[:i] + returns[i + 1 :]) for i in range(len(returns))]
    np.testing.assert_allclose(rloo(episodes([[r] for r in returns])), np.array(returns) - others, atol=1e-9)
