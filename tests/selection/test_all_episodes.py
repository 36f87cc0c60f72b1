import numpy as np

from lapwing.selection.all_episodes import all_episodes
from lapwing.testing import episodes


def test_every_episode_counts_once_with_factor_one():
    batch = episodes([[1, 2], [0], [3]])
    count, factor = all_episodes(batch, np.zeros(4), np.random.default_rng(0))
    np.testing.assert_array_equal(count, [1, 1, 1])
    np.testing.assert_array_equal(factor, [1.0, 1.0, 1.0])
