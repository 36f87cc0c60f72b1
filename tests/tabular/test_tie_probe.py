import numpy as np
import pytest

from lapwing.core.errors import LapwingError
from lapwing.tabular.tie_probe import regularised_optimum, tie_probe


@pytest.mark.parametrize(("delta", "second"), [(0.01, 0.505), (-0.01, 0.495)])
def test_with_entropy_a_small_reward_moves_the_optimum_a_little(delta, second):
    found = regularised_optimum(np.array([0.0, delta]), 0.5)
    assert found[1] == pytest.approx(second, abs=5e-5)
    assert found.sum() == pytest.approx(1.0)


def test_a_tie_is_a_cliff_for_the_greedy_policy_alone():
    found = tie_probe(np.array([1.0, 1.0, 0.0]), delta=0.01, temperature=0.5)
    assert found.greedy == 1.0
    assert found.regularised < 0.02
    assert found.is_cliff


def test_without_a_tie_nothing_moves_for_the_greedy_policy():
    found = tie_probe(np.array([1.0, 0.5]), delta=0.01, temperature=0.5)
    assert found.greedy == 0.0
    assert not found.is_cliff
    assert found.regularised > 0.0


def test_the_regularised_optimum_moves_in_proportion():
    # Fails when the perturbation is one-sided: the ratio is that of the steps all the same, but the amount is half.
    small, large = (tie_probe(np.zeros(2), delta=d, temperature=1.0).regularised for d in (0.01, 0.02))
    assert large / small == pytest.approx(2.0, rel=1e-3)
    assert small == pytest.approx(0.005, rel=1e-3)


@pytest.mark.parametrize(
    ("reward", "settings"),
    [([1.0], {}), ([1.0, np.nan], {}), ([1.0, 1.0], {"delta": 0.0}), ([1.0, 1.0], {"temperature": 0.0})],
)
def test_what_has_no_meaning_is_refused(reward, settings):
    with pytest.raises(LapwingError):
        tie_probe(np.array(reward), **{"delta": 0.1, "temperature": 1.0, **settings})
