import numpy as np
import pytest

from lapwing.aggregation.episode_mean import episode_mean
from lapwing.aggregation.episode_step_mean import episode_step_mean
from lapwing.aggregation.step_mean import step_mean
from lapwing.core.types import Selection
from lapwing.testing import episodes


def two_episodes():
    """Episode 0 has steps of 1 and 3 tokens, episode 1 of 2 and none; tokens 0 | 1 2 3 | 4 5 |."""
    return episodes([[0, 0], [0, 0]], tokens_per_step=[[1, 3], [2, 0]])


def once(batch):
    return Selection(np.ones(batch.num_episodes, dtype=np.int64), np.ones(batch.num_episodes))


def test_counts_and_factors_by_hand():
    # Fails when steps weigh by their tokens, episodes by their steps, or a step without tokens is counted.
    #   Σ count = 3;  episode 0, two written steps: 2·¼/(1·2·3) = 1/12 and 2·¼/(3·2·3) = 1/36
    #   episode 1, one written step: 1/(2·1·3) = 1/6
    weight = episode_step_mean(two_episodes(), Selection(np.array([2, 1]), np.array([0.25, 1])))
    np.testing.assert_allclose(weight, [1 / 12, 1 / 36, 1 / 36, 1 / 36, 1 / 6, 1 / 6])


def test_with_one_step_per_episode_it_is_the_step_mean():
    batch = episodes([[0], [0], [0]], tokens_per_step=[[1], [4], [0]])
    np.testing.assert_allclose(episode_step_mean(batch, once(batch)), step_mean(batch, once(batch)))


def test_with_one_token_per_step_it_is_the_episode_mean():
    batch = episodes([[0, 0, 0], [0]])
    np.testing.assert_allclose(episode_step_mean(batch, once(batch)), episode_mean(batch, once(batch)))


def test_without_factors_the_weights_sum_to_one():
    batch = two_episodes()
    assert episode_step_mean(batch, Selection(np.array([3, 1]), np.ones(2))).sum() == pytest.approx(1)
