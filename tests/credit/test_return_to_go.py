import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.reinforce import reinforce
from lapwing.credit.return_to_go import return_to_go
from lapwing.testing import episodes

reward_lists = st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=5), min_size=1, max_size=5)


def test_three_rewards_by_hand():
    #   γ = 0.1:  G_2 = 3,  G_1 = 2 + 0.1·3 = 2.3,  G_0 = 1 + 0.1·2.3 = 1.23
    np.testing.assert_allclose(return_to_go(episodes([[1, 2, 3]]), discount=0.1), [1.23, 2.3, 3.0])


def test_the_sum_stops_at_the_end_of_the_episode():
    # Fails when the sum runs on into the next episode.
    np.testing.assert_allclose(return_to_go(episodes([[1, 2], [4, 8]])), [3, 2, 12, 8])


def test_the_outcome_is_a_reward_of_the_last_step():
    # Fails when `reward` is summed without the outcome.
    #   rewards 1, 0 and outcome 8 with γ = ½:  G_1 = 0 + 8,  G_0 = 1 + ½·8 = 5
    np.testing.assert_allclose(return_to_go(episodes([[1, 0]], outcome=[8]), discount=0.5), [5, 8])


def test_a_truncated_episode_is_worth_nothing_past_its_end():
    np.testing.assert_allclose(return_to_go(episodes([[1, 1]], truncated=[True])), [2, 1])


@given(reward_lists)
def test_discount_zero_is_the_reward(rewards):
    batch = episodes(rewards)
    np.testing.assert_array_equal(return_to_go(batch, discount=0.0), batch.reward)


@given(reward_lists)
def test_the_first_step_of_an_episode_has_the_episode_return(rewards):
    batch = episodes(rewards, outcome=[1.0] * len(rewards))
    first = batch.step_splits[:-1]
    np.testing.assert_allclose(return_to_go(batch)[first], reinforce(batch)[first])


@pytest.mark.parametrize("discount", [-0.1, 1.1, float("nan")])
def test_a_discount_outside_zero_to_one_is_refused(discount):
    with pytest.raises(UserError, match=r"discount must be in \[0, 1\]"):
        return_to_go(episodes([[1]]), discount=discount)
