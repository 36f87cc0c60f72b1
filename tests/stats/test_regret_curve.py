import numpy as np
import pytest

from lapwing.core.errors import LapwingError
from lapwing.stats.regret_curve import regret_curve, regret_growth


def test_regret_adds_up_step_by_step():
    #   episode 1: 1 1 2;  episode 2: 0 1 1 (it ended after two steps)
    curve = regret_curve([[1.0, 0.0, 1.0], [0.0, 1.0]])
    assert [step for step, _ in curve] == [1, 2, 3]
    assert [found.mean for _, found in curve] == pytest.approx([0.5, 1.0, 1.5])
    assert all(found.low <= found.mean <= found.high for _, found in curve)


def test_a_long_curve_keeps_its_first_and_last_step():
    curve = regret_curve([[0.5] * 100], points=5)
    assert [step for step, _ in curve] == [1, 26, 50, 75, 100]
    assert curve[-1][1].mean == pytest.approx(50.0)


@pytest.mark.parametrize("regret", [[], [[]], [[1.0], []], [[float("nan")]]])
def test_no_regret_at_all_is_refused(regret):
    with pytest.raises(LapwingError, match="regret curve"):
        regret_curve(regret)


def test_growth_tells_a_logarithm_from_a_line():
    step = np.arange(1, 200)
    settled = regret_growth(step, 3.0 * np.log1p(step))
    assert settled == pytest.approx((3.0, 0.0, 1.0), abs=1e-6)
    never = regret_growth(step, 0.25 * step)
    assert never == pytest.approx((0.0, 0.25, 1.0), abs=1e-6)
    both = regret_growth(step, 2.0 * np.log1p(step) + 0.1 * step)
    assert both == pytest.approx((2.0, 0.1, 1.0), abs=1e-6)


def test_no_part_of_a_growth_is_negative():
    step = np.arange(1, 50)
    found = regret_growth(step, np.sqrt(step))
    assert found.logarithmic >= 0
    assert found.linear >= 0
    assert 0.9 < found.explained < 1.0
    assert regret_growth(step, np.zeros(49)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("step", "regret"), [([1], [1.0]), ([1, 2], [1.0])])
def test_one_point_has_no_growth(step, regret):
    with pytest.raises(LapwingError, match="two points"):
        regret_growth(np.array(step), np.array(regret))
