import numpy as np
import pytest

from lapwing.aggregation.step_mean import step_mean
from lapwing.core.types import Selection
from lapwing.testing import episodes


def two_episodes():
    """Episode 0 has steps of 1 and 3 tokens, episode 1 of 2 and none; tokens 0 | 1 2 3 | 4 5 |."""
    return episodes([[0, 0], [0, 0]], tokens_per_step=[[1, 3], [2, 0]])


def once(batch):
    return Selection(np.ones(batch.num_episodes, dtype=np.int64), np.ones(batch.num_episodes))


def test_counts_and_factors_by_hand():
    # Fails when a step weighs by its tokens, or when the step without tokens is counted.
    #   Σ count over written steps = 2·2 + 1·1 = 5
    #   episode 0: 2·¼/(1·5) = 0.1 and 2·¼/(3·5) = 1/30;  episode 1: 1/(2·5) = 0.1
    weight = step_mean(two_episodes(), Selection(np.array([2, 1]), np.array([0.25, 1])))
    np.testing.assert_allclose(weight, [0.1, 1 / 30, 1 / 30, 1 / 30, 0.1, 0.1])


def test_all_steps_weigh_the_same():
    batch = two_episodes()
    per_step = np.bincount(batch.step_of_token, step_mean(batch, once(batch)), minlength=4)
    np.testing.assert_allclose(per_step, [1 / 3, 1 / 3, 1 / 3, 0])


def test_published_numbers():
    #   losses −1 on the 2 tokens of one episode and +1 on the 6 of the other: (−1 + 1)/2
    batch = episodes([[0], [0]], tokens_per_step=[[2], [6]])
    loss = np.array([-1, -1, 1, 1, 1, 1, 1, 1])
    assert ((step_mean(batch, once(batch))) * loss).sum() == pytest.approx(0.0)


def test_without_factors_the_weights_sum_to_one():
    batch = two_episodes()
    assert step_mean(batch, Selection(np.array([3, 1]), np.ones(2))).sum() == pytest.approx(1)
