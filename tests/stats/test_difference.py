import pytest

from lapwing.stats.difference import difference
from lapwing.stats.interval import Interval
from lapwing.stats.wilson import wilson


def test_by_hand():
    # Down: 3 below the first and 4 above the second, √(9 + 16) = 5; up: 5 and 12, 13.
    found = difference(Interval(50.0, 47.0, 55.0), Interval(20.0, 8.0, 24.0))
    assert found == Interval(30.0, 25.0, 43.0)


def test_newcombe_s_example():
    # Newcombe 1998, table II, (a) 56/70 − 48/80, method 10.
    found = difference(wilson(56, 70), wilson(48, 80))
    assert found.mean == pytest.approx(0.2)
    assert (found.low, found.high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))


def test_the_other_way_round_is_the_negative():
    one, other = wilson(9, 10), wilson(3, 10)
    there, back = difference(one, other), difference(other, one)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))


def test_what_is_known_exactly_adds_nothing():
    found = difference(wilson(7, 10), Interval(0.25, 0.25, 0.25))
    assert (found.low, found.high) == pytest.approx((wilson(7, 10).low - 0.25, wilson(7, 10).high - 0.25))
