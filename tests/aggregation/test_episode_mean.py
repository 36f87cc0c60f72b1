import numpy as np
import pytest

from lapwing.aggregation.episode_mean import episode_mean
from lapwing.core.types import Selection
from lapwing.testing import episodes


def two_episodes():
    """Episode 0 has steps of 1 and 3 tokens, episode 1 of 2 and none; tokens 0 | 1 2 3 | 4 5 |."""
    return episodes([[0, 0], [0, 0]], tokens_per_step=[[1, 3], [2, 0]])


def once(batch):
    return Selection(np.ones(batch.num_episodes, dtype=np.int64), np.ones(batch.num_episodes))


def test_counts_and_factors_by_hand():
    # Fails when a long episode weighs more than a short one, or when the factor enters the denominator.
    #   Σ count = 3;  episode 0: 2·¼/(4·3) = 1/24,  episode 1: 1/(2·3) = 1/6
    weight = episode_mean(two_episodes(), Selection(np.array([2, 1]), np.array([0.25, 1])))
    np.testing.assert_allclose(weight, [1 / 24, 1 / 24, 1 / 24, 1 / 24, 1 / 6, 1 / 6])


def test_an_episode_without_tokens_is_ignored():
    batch = episodes([[0], [0]], tokens_per_step=[[2], [0]])
    np.testing.assert_allclose(episode_mean(batch, once(batch)), [0.5, 0.5])


def test_published_numbers():
    #   losses −1 on the 2 tokens of one episode and +1 on the 6 of the other: (−1 + 1)/2
    batch = episodes([[0], [0]], tokens_per_step=[[2], [6]])
    loss = np.array([-1, -1, 1, 1, 1, 1, 1, 1])
    assert ((episode_mean(batch, once(batch))) * loss).sum() == pytest.approx(0.0)


def test_without_factors_the_weights_sum_to_one():
    batch = two_episodes()
    assert episode_mean(batch, Selection(np.array([3, 1]), np.ones(2))).sum() == pytest.approx(1)
