import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lapwing.credit.reinforce import reinforce
from lapwing.credit.return_to_go import return_to_go
from lapwing.testing import episodes


def test_every_step_has_the_whole_return_by_hand():
    #   episode 0: 1 + 2 + outcome 4 = 7 on both of its steps;  episode 1: 5 + 0
    np.testing.assert_array_equal(reinforce(episodes([[1, 2], [5]], outcome=[4, 0])), [7, 7, 5])


def test_there_is_no_baseline():
    # Fails when a group mean is subtracted.
    np.testing.assert_array_equal(reinforce(episodes([[1], [1]])), [1, 1])


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=6))
def test_with_one_step_per_episode_it_is_the_return_to_go(returns):
    batch = episodes([[r] for r in returns])
    np.testing.assert_array_equal(reinforce(batch), return_to_go(batch))
