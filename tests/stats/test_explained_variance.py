import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import LapwingError
from lapwing.stats.explained_variance import explained_variance

pairs = st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=9)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        #   targets 0, 0, 2, 2 with variance 1
        ([0, 0, 2, 2], 1.0),
        ([7, 7, 7, 7], 0.0),
        #   errors 0, 0, 1, 1 with variance ¼
        ([0, 0, 1, 1], 0.75),
        #   the other way round: errors −2, −2, 2, 2 with variance 4
        ([2, 2, 0, 0], -3.0),
    ],
    ids=["perfect", "constant", "half as far", "the wrong way round"],
)
def test_four_values_by_hand(value, expected):
    assert explained_variance(np.array(value), np.array([0, 0, 2, 2])) == pytest.approx(expected)


@given(pairs, st.integers(-5, 5))
def test_a_bias_of_the_critic_does_not_count(numbers, bias):
    value, target = np.array(numbers, dtype=float).T
    assert explained_variance(value + bias, target) == pytest.approx(explained_variance(value, target), abs=1e-9)


@given(pairs, st.sampled_from([1e-9, 0.5, 1e6]))
def test_the_unit_does_not_count(numbers, scale):
    value, target = np.array(numbers, dtype=float).T
    assert explained_variance(value * scale, target * scale) == pytest.approx(explained_variance(value, target))


@pytest.mark.parametrize("target", [[0.0], [3.0, 3.0], [0.0, 0.0, 0.0], [0.1 + 0.2, 0.3]])
def test_targets_without_variance_give_zero(target):
    # Fails with a division by zero, or by the rounding of equal sums.
    assert explained_variance(np.arange(len(target)), np.array(target)) == 0.0


@pytest.mark.parametrize(
    ("value", "target"), [([], []), ([1], [1, 2]), ([[1]], [[1]]), ([np.nan], [1]), ([1], [np.inf])]
)
def test_bad_input_is_refused(value, target):
    with pytest.raises(LapwingError, match="explained_variance needs"):
        explained_variance(np.array(value, dtype=float), np.array(target, dtype=float))
