import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lapwing.core.errors import LapwingError, UserError
from lapwing.stats.wilson import wilson


def test_five_of_ten_by_hand():
    #   z = 1.959964, z² = 3.841459:  1 + z²/n = 1.3841459, centre (0.5 + 0.1920729)/1.3841459 = 0.5
    #   half 1.959964 · √(0.025 + 0.0096036)/1.3841459 = 0.2634069
    assert wilson(5, 10) == pytest.approx((0.5, 0.2365931, 0.7634069), abs=1e-6)


def test_no_success_still_has_a_width():
    #   low 0;  high = z²/(n + z²) = 3.841459/13.841459 = 0.2775328
    assert wilson(0, 10) == pytest.approx((0.0, 0.0, 0.2775328), abs=1e-6)
    assert wilson(10, 10) == pytest.approx((1.0, 0.7224672, 1.0), abs=1e-6)


@given(st.integers(1, 300), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_it_agrees_with_scipy_and_holds_the_mean(total, data, confidence):
    successes = data.draw(st.integers(0, total))
    mean, low, high = wilson(successes, total, confidence)
    expected = stats.binomtest(successes, total).proportion_ci(confidence, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= low <= mean <= high <= 1
    assert low < high


@pytest.mark.parametrize(("successes", "total"), [(0, 0), (-1, 4), (5, 4)])
def test_impossible_counts_are_refused(successes, total):
    with pytest.raises(LapwingError, match=f"it was {successes} of {total}"):
        wilson(successes, total)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_outside_zero_to_one_is_refused(confidence):
    with pytest.raises(UserError, match=r"confidence must be in \(0, 1\)"):
        wilson(1, 2, confidence)
