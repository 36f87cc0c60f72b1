import numpy as np

from lapwing.filters.truncated import truncated
from lapwing.testing import episodes


def test_cut_episodes_are_left_out():
    batch = episodes([[0.0]] * 4, terminated=[True, False, True, False], truncated=[False, True, True, False])
    np.testing.assert_array_equal(truncated(batch), [True, False, True, True])


def test_what_is_left_is_compared_among_itself():
    batch = episodes([[1.0], [0.0], [5.0]], truncated=[False, False, True])
    np.testing.assert_array_equal(batch.select(truncated(batch)).episode_return, [1, 0])
