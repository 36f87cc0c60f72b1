import numpy as np
import pytest

from lapwing.aggregation.constant import constant
from lapwing.core.errors import UserError
from lapwing.core.types import Selection
from lapwing.testing import episodes


def two_episodes():
    """Episode 0 has steps of 1 and 3 tokens, episode 1 of 2 and none; tokens 0 | 1 2 3 | 4 5 |."""
    return episodes([[0, 0], [0, 0]], tokens_per_step=[[1, 3], [2, 0]])


def once(batch):
    return Selection(np.ones(batch.num_episodes, dtype=np.int64), np.ones(batch.num_episodes))


def test_counts_and_factors_by_hand():
    # Fails when the lengths of the batch enter the weight.
    #   Σ count = 3, budget 10;  episode 0: 2·¼/30 = 1/60,  episode 1: 1/30
    weight = constant(two_episodes(), Selection(np.array([2, 1]), np.array([0.25, 1])), budget=10)
    np.testing.assert_allclose(weight, [1 / 60, 1 / 60, 1 / 60, 1 / 60, 1 / 30, 1 / 30])


def test_an_episode_without_tokens_counts_as_one_that_used_nothing_of_its_budget():
    batch = episodes([[0], [0]], tokens_per_step=[[2], [0]])
    np.testing.assert_allclose(constant(batch, once(batch), budget=5), [0.1, 0.1])


def test_published_numbers():
    #   losses −1 on the 2 tokens of one episode and +1 on the 6 of the other: 4/(2·10)
    batch = episodes([[0], [0]], tokens_per_step=[[2], [6]])
    loss = np.array([-1, -1, 1, 1, 1, 1, 1, 1])
    assert ((constant(batch, once(batch), budget=10)) * loss).sum() == pytest.approx(0.2)


@pytest.mark.parametrize("budget", [0, -3, float("inf"), float("nan")])
def test_a_budget_that_is_no_number_of_tokens_is_refused(budget):
    with pytest.raises(UserError, match="budget must be a positive number of tokens"):
        constant(two_episodes(), once(two_episodes()), budget=budget)
