import numpy as np
import pytest

from lapwing.audit.regroup import regroup
from lapwing.core.errors import UserError
from lapwing.testing import episodes


def batch(group):
    return episodes([[float(n)] for n in range(len(group))], group=group)


def test_by_hand():
    # Start 5 has five episodes: 2, 2 and one that joins; start 9 has four.
    found = regroup(batch([5, 9, 5, 9, 5, 9, 5, 9, 5]), 2).group
    np.testing.assert_array_equal(found, [0, 2, 0, 2, 1, 3, 1, 3, 1])


def test_what_is_left_over_is_a_smaller_group():
    np.testing.assert_array_equal(regroup(batch([0] * 8), 3).group, [0, 0, 0, 1, 1, 1, 2, 2])


def test_no_group_is_of_one_and_none_spans_two_starts():
    rng = np.random.default_rng(0)
    for _ in range(50):
        start = rng.integers(0, 3, size=40)
        size = int(rng.integers(2, np.bincount(start).min() + 1))
        group = regroup(batch(start), size).group
        counts = np.bincount(group)
        assert counts.min() >= 2
        assert counts.max() <= size + 1
        assert all(len(set(start[group == number])) == 1 for number in range(len(counts)))


@pytest.mark.parametrize("size", [1, 5])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(UserError, match="2 to 4 episodes"):
        regroup(batch([0] * 4), size)
