import math

import numpy as np
import pytest

from lapwing.core.errors import LapwingError
from lapwing.stats.bandit_index import lin_ucb, ucb1


def test_ucb1_by_hand():
    #   t = 1 + 4 = 5;  values 1/1, 2/4;  bonuses √(2 ln 5 / 1) = 1.7941, √(2 ln 5 / 4) = 0.8971
    value, bonus = ucb1(np.array([1, 4]), np.array([1.0, 2.0]))
    np.testing.assert_allclose(value, [1.0, 0.5])
    np.testing.assert_allclose(bonus, [1.7941226, 0.8970613], atol=1e-6)
    _, doubled = ucb1(np.array([1, 4]), np.array([1.0, 2.0]), scale=2.0)
    np.testing.assert_allclose(doubled, 2 * bonus)


def test_an_arm_that_was_never_pulled_comes_first():
    value, bonus = ucb1(np.array([0, 3]), np.array([0.0, 3.0]))
    assert (value[0], bonus[0]) == (0.0, math.inf)
    assert np.argmax(value + bonus) == 0


def test_lin_ucb_by_hand():
    #   one feature, ridge 1: arm 0 saw x = 2 twice and paid 1 each time: A = 1 + 8 = 9, b = 4
    #   x = 3: value 3 · 4/9 = 4/3, bonus ½ · √(9/9) = 0.5; arm 1 is new: value 0, bonus ½ · √9 = 1.5
    value, bonus = lin_ucb(np.array([[[8.0]], [[0.0]]]), np.array([[4.0], [0.0]]), np.array([3.0]), alpha=0.5)
    np.testing.assert_allclose(value, [4 / 3, 0.0])
    np.testing.assert_allclose(bonus, [0.5, 1.5])


def test_lin_ucb_estimates_by_ridge_regression():
    rng = np.random.default_rng(0)
    x, paid = rng.standard_normal((20, 3)), rng.standard_normal(20)
    context = rng.standard_normal(3)
    value, _ = lin_ucb((x.T @ x)[None], (paid @ x)[None], context, ridge=0.3)
    rows = np.vstack([x, math.sqrt(0.3) * np.eye(3)])
    expected = np.linalg.lstsq(rows, np.concatenate([paid, np.zeros(3)]), rcond=None)[0]
    np.testing.assert_allclose(value, [expected @ context])


@pytest.mark.parametrize(
    "call",
    [
        lambda: ucb1(np.array([1, 2]), np.array([1.0])),
        lambda: ucb1(np.array([-1]), np.array([1.0])),
        lambda: ucb1(np.array([1]), np.array([1.0]), scale=0.0),
        lambda: lin_ucb(np.zeros((1, 2, 2)), np.zeros((1, 3)), np.zeros(2)),
        lambda: lin_ucb(np.zeros((1, 2, 2)), np.zeros((1, 2)), np.zeros(2), alpha=-1.0),
        lambda: lin_ucb(np.zeros((1, 2, 2)), np.zeros((1, 2)), np.zeros(2), ridge=0.0),
    ],
)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(LapwingError):
        call()
