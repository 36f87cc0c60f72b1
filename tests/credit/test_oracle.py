import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import LapwingError
from lapwing.credit.oracle import oracle
from lapwing.testing import episodes


def test_it_is_the_column():
    batch = episodes([[1, 0], [5]], outcome=[0, 3], truncated=[True, False], exact_advantage=[[0.25, -1], [0.5]])
    np.testing.assert_array_equal(oracle(batch), [0.25, -1, 0.5])


@given(st.lists(st.lists(st.floats(-9, 9), min_size=1, max_size=4), min_size=1, max_size=5))
def test_it_is_the_column_whatever_the_rewards_and_groups(advantage):
    batch = episodes(advantage, group=list(range(len(advantage))), exact_advantage=advantage)
    np.testing.assert_array_equal(oracle(batch), np.concatenate(advantage))


def test_whole_and_short_numbers_come_as_float64():
    assert oracle(episodes([[0, 0]], exact_advantage=[[1, 2]])).dtype == np.float64


def test_the_answer_may_be_written_to_and_is_no_part_of_the_batch():
    batch = episodes([[0]], exact_advantage=[[1.0]])
    oracle(batch)[0] = 5
    np.testing.assert_array_equal(oracle(batch), [1])


def test_a_missing_column_is_refused_with_who_supplies_it():
    with pytest.raises(LapwingError, match=r"oracle needs the column 'exact_advantage'.*annotate/exact_advantage"):
        oracle(episodes([[1]]))


def test_a_column_that_is_not_finite_is_refused():
    with pytest.raises(LapwingError, match="oracle needs finite numbers in the column 'exact_advantage'"):
        oracle(episodes([[1]], exact_advantage=[[float("inf")]]))
