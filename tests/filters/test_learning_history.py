import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import LapwingError
from lapwing.filters._learning_history import improvement, keep_probability, stability

histories = st.lists(st.integers(0, 9), min_size=1, max_size=9).map(np.array)


@pytest.mark.parametrize(
    ("returns", "expected"), [([0, 1, 2, 3], 1), ([0, 3, 0, 3], 2 / 3), ([2, 2, 2], 0), ([5], 0), ([3, 0], 0)]
)
def test_the_printed_stability(returns, expected):
    assert stability(np.array(returns)) == pytest.approx(expected)


def test_improvement_by_hand():
    #   thirds of two: 3.5 − ½ over 4
    assert improvement(np.array([0, 1, 2, 2, 3, 4]), 4.0) == pytest.approx(0.75)
    #   a third of four episodes are two
    assert improvement(np.array([0, 1, 2, 3]), 4.0) == pytest.approx(0.5)
    assert improvement(np.array([0, 1]), 0.0) == 0.0


def test_a_rising_steady_history_is_kept_more_often_than_a_flat_or_a_noisy_one():
    rising, flat, noisy = keep_probability([np.array([0, 1, 2, 3]), np.array([1, 1, 1, 1]), np.array([0, 3, 0, 3])])
    assert rising == 1 > noisy > flat == 0


def test_what_lies_below_the_percentile_is_dropped():
    data = [np.array([0, 1, 2, 3]), np.array([0, 3, 0, 3]), np.array([3, 2, 1, 0])]
    kept = keep_probability(data, percentile=50.0)
    assert kept[0] == 1
    assert kept[1] > 0
    assert kept[2] == 0
    assert keep_probability(data, percentile=60.0)[1] == 0


@given(st.lists(histories, min_size=1, max_size=6), st.floats(0, 3))
def test_it_is_a_probability_and_the_best_is_always_kept(data, weight):
    kept = keep_probability(data, weight=weight)
    assert ((kept >= 0) & (kept <= 1)).all()
    assert kept.max() == 1
    for returns in data:
        assert 0 <= stability(returns) <= 1
        assert -1 <= improvement(returns, 9.0) <= 1


def test_wrong_input_is_refused():
    with pytest.raises(LapwingError, match="no history"):
        keep_probability([])
    with pytest.raises(LapwingError, match="percentile"):
        keep_probability([np.zeros(2)], percentile=100.0)
    with pytest.raises(LapwingError, match="finite returns"):
        stability(np.array([]))
