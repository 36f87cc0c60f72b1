import numpy as np
import pytest

from lapwing.core.errors import LapwingError
from lapwing.tabular.bilevel import hyper_gradient

TWO_ARMS = np.array([[1.0], [0.0]])


def test_two_arms_by_hand():
    value, gradient = hyper_gradient(np.zeros(1), TWO_ARMS, np.array([1.0, 0.0]), temperature=1.0)
    assert value == 0.5
    assert gradient.tolist() == [0.25]


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_derivative(seed):
    rng = np.random.default_rng(seed)
    design, features, utility = rng.normal(size=3), rng.normal(size=(4, 3)), rng.normal(size=4)
    beta, step = float(rng.uniform(0.3, 2.0)), 1e-5
    _, gradient = hyper_gradient(design, features, utility, temperature=beta)
    for axis, along in enumerate(step * np.eye(3)):
        above, below = (hyper_gradient(design + s * along, features, utility, temperature=beta)[0] for s in (1, -1))
        assert gradient[axis] == pytest.approx((above - below) / (2 * step), abs=1e-6)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(LapwingError):
        hyper_gradient(np.zeros(2), TWO_ARMS, np.zeros(2), temperature=1.0)
