import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.credit.dr_grpo import dr_grpo
from lapwing.filters.truncated import truncated
from lapwing.selection.untruncated import untruncated
from lapwing.testing import episodes


def test_cut_episodes_count_in_the_mean_but_are_not_trained_on():
    # Fails when the cut episode is trained on; the filter would change the advantages of the others.
    batch: EpisodeBatch = episodes([[1.0], [0.0], [5.0]], truncated=[False, False, True])
    advantage = dr_grpo(batch)
    count, factor = untruncated(batch, advantage, np.random.default_rng(0))
    np.testing.assert_array_equal(count, [1, 1, 0])
    np.testing.assert_array_equal(factor, [1, 1, 1])
    np.testing.assert_allclose(advantage[:2], [-1, -2])
    np.testing.assert_allclose(dr_grpo(batch.select(truncated(batch))), [0.5, -0.5])


def test_an_episode_that_the_rules_ended_at_the_limit_is_whole():
    batch = episodes([[0.0]], terminated=[True], truncated=[True])
    assert untruncated(batch, np.zeros(1), np.random.default_rng(0)).count.tolist() == [1]
