import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import LapwingError
from lapwing.stats.interquartile_mean import interquartile_mean


def test_eight_scores_by_hand():
    #   sorted 0 0 | 1 2 3 6 | 9 100: a quarter of 8 is 2 on either side, (1 + 2 + 3 + 6) / 4 = 3
    assert interquartile_mean(np.array([9, 1, 100, 0, 3, 0, 6, 2])) == 3.0


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([5.0], 5.0), ([0, 1, 5], 2.0), ([0, 1, 2, 100], 1.5), ([0, 1, 2, 3, 100], 2.0)],
    ids=["one", "three: the mean", "four: the middle two", "five: a quarter is one whole score"],
)
def test_only_whole_scores_are_left_out(scores, expected):
    assert interquartile_mean(np.array(scores)) == pytest.approx(expected)


def test_tasks_are_taken_together_unless_an_axis_is_named():
    scores = np.array([[0.0, 10.0], [1.0, 11.0], [2.0, 12.0], [9.0, 99.0]])
    #   together: 0 1 | 2 9 10 11 | 12 99
    assert interquartile_mean(scores) == 8.0
    np.testing.assert_allclose(interquartile_mean(scores, axis=0), [1.5, 11.5])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_as_a_loop_computes_it(scores):
    middle = sorted(scores)[len(scores) // 4 : len(scores) - len(scores) // 4]
    assert interquartile_mean(np.array(scores)) == pytest.approx(sum(middle) / len(middle), abs=1e-6)


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], [np.inf]])
def test_nothing_and_non_finite_scores_are_refused(scores):
    with pytest.raises(LapwingError, match="at least one score, and finite ones"):
        interquartile_mean(np.array(scores))
