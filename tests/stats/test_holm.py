import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import LapwingError
from lapwing.stats.holm import holm


def test_four_tests_by_hand():
    #   0.01 · 4 = 0.04, 0.02 · 3 = 0.06, 0.03 · 2 = 0.06, 0.9
    np.testing.assert_allclose(holm(np.array([0.03, 0.01, 0.9, 0.02])), [0.06, 0.04, 0.9, 0.06])


def test_a_later_test_is_never_below_an_earlier_one():
    #   0.02 · 2 = 0.04, 0.03 · 1 = 0.03 → 0.04
    np.testing.assert_allclose(holm(np.array([0.03, 0.02])), [0.04, 0.04])


def test_one_test_keeps_its_p_and_none_is_none():
    assert holm(np.array([0.25])) == [0.25]
    assert len(holm(np.array([]))) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_between_the_p_and_bonferroni(p):
    found = holm(np.array(p))
    assert (found >= np.array(p)).all()
    assert (found <= np.minimum(np.array(p) * len(p), 1) + 1e-15).all()


@pytest.mark.parametrize("p", [[-0.1], [1.1, 0.5], [np.nan]])
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(LapwingError, match=r"\[0, 1\]"):
        holm(np.array(p))
