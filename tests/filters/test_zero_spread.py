import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lapwing.credit.grpo import grpo
from lapwing.filters.zero_spread import zero_spread
from lapwing.testing import episodes


def test_groups_by_hand():
    # Fails when nothing is filtered, or when groups of one pass.
    batch = episodes([[0, 1], [1], [3], [1], [0], [0.5, 0.5]], group=[0, 0, 1, 2, 2, 0])
    #   group 0: returns 1, 1, 1;  group 1: alone;  group 2: returns 1 and 0
    np.testing.assert_array_equal(zero_spread(batch), [False, False, False, True, True, False])


def test_the_outcome_is_part_of_the_return():
    np.testing.assert_array_equal(zero_spread(episodes([[1], [1]], outcome=[0, 1])), [True, True])


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=8))
def test_it_keeps_exactly_the_groups_in_which_grpo_says_something(members):
    batch = episodes([[r] for _, r in members], group=[g for g, _ in members])
    loud = [any(grpo(batch)[batch.group == g] != 0) for g in batch.group]
    np.testing.assert_array_equal(zero_spread(batch), loud)
