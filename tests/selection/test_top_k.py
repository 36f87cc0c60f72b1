import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import LapwingError, UserError
from lapwing.selection.top_k import top_k
from lapwing.testing import episodes

RNG = np.random.default_rng(0)


def test_the_largest_absolute_advantages_by_hand():
    # Fails when the sign is not dropped.
    count, factor = top_k(episodes([[0]] * 4), np.array([1.0, -3.0, 2.0, 0.5]), RNG)
    np.testing.assert_array_equal(count, [0, 1, 1, 0])
    np.testing.assert_array_equal(factor, np.ones(4))


def test_an_episode_has_the_mean_over_its_steps():
    # Fails when the steps are summed, or when their signs cancel.
    #   |A|: (2 + 2)/2 = 2 against 3 against (1 + 1 + 1 + 1)/4 = 1
    batch = episodes([[0, 0], [0], [0, 0, 0, 0]])
    advantage = np.array([2, -2, 3, 1, 1, 1, 1.0])
    np.testing.assert_array_equal(top_k(batch, advantage, RNG, keep=0.1).count, [0, 1, 0])
    np.testing.assert_array_equal(top_k(batch, advantage, RNG, keep=0.6).count, [1, 1, 0])


def test_of_equal_sizes_the_earlier_goes_first():
    np.testing.assert_array_equal(top_k(episodes([[0]] * 4), np.array([1, -1, 1, -1.0]), RNG).count, [1, 1, 0, 0])


def test_episodes_without_advantage_are_never_selected():
    # Fails when the share is filled up with them.
    batch = episodes([[0]] * 4)
    np.testing.assert_array_equal(top_k(batch, np.array([0, 0, 0, 1.0]), RNG, keep=1.0).count, [0, 0, 0, 1])
    np.testing.assert_array_equal(top_k(batch, np.zeros(4), RNG).count, [0, 0, 0, 0])


def test_token_advantages_average_over_the_tokens_of_a_step_and_then_over_the_steps():
    # Fails when tokens are averaged over the whole episode at once.
    batch = episodes([[0, 0], [0, 0]], tokens_per_step=[[1, 3], [2, 0]])
    #   episode 0: (4 + (1 + 1 + 1)/3)/2 = 2.5 (over tokens 7/4);  episode 1: one written step, (2 + 2.2)/2 = 2.1
    advantage = np.array([4, 1, -1, 1, 2, -2.2])
    np.testing.assert_array_equal(top_k(batch, advantage, RNG, keep=0.5).count, [1, 0])


@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=1, max_size=5), st.integers(0, 99))
def test_spreading_the_advantage_to_tokens_changes_nothing(tokens, seed):
    batch = episodes([[0] * len(episode) for episode in tokens], tokens_per_step=tokens)
    advantage = np.random.default_rng(seed).normal(size=batch.num_steps)
    expected = top_k(batch, advantage, RNG).count
    np.testing.assert_array_equal(top_k(batch, batch.spread(advantage), RNG).count, expected)


def test_an_advantage_of_another_length_is_refused():
    batch = episodes([[0, 0]], tokens_per_step=3)
    with pytest.raises(LapwingError, match="length 5; the batch has 2 steps and 6 tokens"):
        top_k(batch, np.zeros(5), RNG)


def test_a_share_outside_zero_to_one_is_refused():
    with pytest.raises(UserError, match="keep"):
        top_k(episodes([[0]]), np.zeros(1), RNG, keep=0)
