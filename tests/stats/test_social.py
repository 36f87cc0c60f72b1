import numpy as np
import pytest

from lapwing.core.errors import LapwingError
from lapwing.stats.social import efficiency, equality, isoelastic_welfare, peace, sustainability

# Four steps: the first player is paid at 1 and 3, the second at 4, and one is out for one step.
REWARD = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


def test_an_episode_by_hand():
    tagged = np.zeros((2, 4), dtype=bool)
    tagged[1, 2] = True
    assert efficiency(REWARD) == 0.75
    assert equality(REWARD) == pytest.approx(0.83333, abs=1e-5)
    assert sustainability(REWARD) == 3.0
    assert peace(tagged) == 1.75


def test_nothing_earned_is_equal_and_nobody_is_out():
    assert equality(np.zeros((3, 2))) == 1.0
    assert sustainability(np.zeros((3, 2))) == 0.0
    assert peace(np.zeros((3, 2), dtype=bool)) == 3.0


def test_equality_does_not_depend_on_the_unit_or_on_who_is_who():
    rng = np.random.default_rng(0)
    reward = rng.uniform(size=(5, 7))
    assert equality(3.0 * reward[::-1]) == pytest.approx(equality(reward))
    assert equality(np.ones((4, 2))) == 1.0


def test_welfare_by_hand():
    assert isoelastic_welfare(np.array([1.0, 4.0]), aversion=0.5) == pytest.approx(0.0 + 2.0)
    assert isoelastic_welfare(np.array([1.0, np.e]), aversion=1.0) == pytest.approx(1.0)
    assert isoelastic_welfare(np.array([2.0, 3.0]), aversion=0.0) == pytest.approx(3.0)
    # The formula for one is the limit of the others.
    near = isoelastic_welfare(np.array([2.0, 5.0]), aversion=1.0 + 1e-7)
    assert near == pytest.approx(isoelastic_welfare(np.array([2.0, 5.0]), aversion=1.0), abs=1e-5)


def test_what_has_no_meaning_is_refused():
    with pytest.raises(LapwingError):
        efficiency(np.zeros(3))
    with pytest.raises(LapwingError):
        peace(np.zeros(3, dtype=bool))
    with pytest.raises(LapwingError):
        isoelastic_welfare(np.array([0.0]), aversion=0.5)
