import numpy as np
import pytest

from lapwing.audit.accuracy import accuracy
from lapwing.core.errors import LapwingError


def problem(steps=20_000, seed=0):
    """Four places with three actions, their exact advantages, and units of five steps."""
    rng = np.random.default_rng(seed)
    place, action = rng.integers(0, 4, steps), rng.integers(0, 3, steps)
    exact = rng.normal(size=(4, 3))[place, action]
    return rng, place, action, exact, np.arange(steps) // 5


def test_the_exact_advantage_has_no_error():
    _, place, action, exact, unit = problem()
    found = accuracy(exact, exact, place, action, unit, rescale=False)
    assert (found.bias, found.action_bias, found.bias_squared_error, found.mse, found.variance) == (0, 0, 0, 0, 0)
    assert (found.sign_agreement, found.scale, found.covered) == (1.0, 1.0, 1.0)
    assert found.rank_correlation == pytest.approx(1.0)


def test_bias_and_variance_are_told_apart():
    rng, place, action, exact, unit = problem()
    shift, tilt = np.array([0.3, -0.2, 0.1, 0.0]), np.array([0.4, 0.0, -0.4])
    noise = rng.normal(size=len(exact)) * 2.0
    found = accuracy(exact + shift[place] + tilt[action] + noise, exact, place, action, unit, rescale=False)
    wanted = np.mean((shift[place] + tilt[action]) ** 2)
    assert found.bias_squared == pytest.approx(wanted, abs=4 * found.bias_squared_error)
    # What is the same for all actions of a place is no action bias.
    between = np.mean((tilt[action] - tilt.mean()) ** 2)
    assert found.action_bias_squared == pytest.approx(between, abs=4 * found.action_bias_squared_error)
    assert found.variance == pytest.approx(4.0, rel=0.05)
    assert found.mse == pytest.approx(found.bias_squared + found.variance)


def test_noise_alone_is_no_bias_whatever_its_size():
    squares = []
    for seed in range(30):
        rng, place, action, exact, unit = problem(2000, seed)
        # Noise that the steps of a unit share, as the baseline of a group is.
        noise = rng.normal(size=unit.max() + 1)[unit] * 3.0
        squares.append(accuracy(exact + noise, exact, place, action, unit, rescale=False).bias_squared)
    assert abs(np.mean(squares)) < 4 * np.std(squares) / np.sqrt(len(squares))
    # The plain square of the means is far from 0: this is what the pairs of units are for.
    assert np.std(squares) < 9.0 / 2000 * 12 * 5


def test_the_squared_bias_is_the_mean_over_pairs_of_units():
    rng = np.random.default_rng(2)
    place, unit = rng.integers(0, 3, 40), rng.integers(0, 6, 40)
    exact, estimate = np.zeros(40), rng.normal(size=40)
    found = accuracy(estimate, exact, place, np.zeros(40, dtype=int), unit, rescale=False)
    total = 0.0
    for cell in range(3):
        at = np.flatnonzero(place == cell)
        products = [estimate[i] * estimate[j] for i in at for j in at if unit[i] != unit[j]]
        total += len(at) * np.mean(products)
    assert found.bias_squared == pytest.approx(total / 40, abs=1e-12)


def test_a_scale_is_found_through_the_noise():
    rng, place, action, exact, unit = problem(50_000)
    estimate = (exact + rng.normal(size=len(exact))) / 5.0
    found = accuracy(estimate, exact, place, action, unit, rescale=True)
    assert found.scale == pytest.approx(5.0, rel=0.05)
    assert found.bias < 0.1
    assert accuracy(estimate, exact, place, action, unit, rescale=False).bias > 0.5


def test_an_estimate_of_zeros_has_no_scale_and_no_rank():
    _, place, action, exact, unit = problem(500)
    found = accuracy(np.zeros(500), exact, place, action, unit, rescale=True)
    assert (found.scale, found.rank_correlation, found.sign_agreement) == (None, None, 0.0)
    assert found.bias_squared == pytest.approx(np.mean(exact**2))


def test_steps_without_a_sign_do_not_count():
    found = accuracy(
        np.array([1.0, -1.0, 1.0]), np.array([0.5, 0.5, 1e-12]), np.zeros(3, int), np.zeros(3, int), np.arange(3),
        rescale=False,
    )  # fmt: skip
    assert found.sign_agreement == 0.5


def test_what_one_unit_alone_saw_is_not_covered():
    found = accuracy(np.ones(4), np.zeros(4), np.array([0, 0, 1, 1]), np.zeros(4, int), np.array([0, 1, 2, 2]),
                     rescale=False)  # fmt: skip
    assert found.covered == 0.5


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(LapwingError, match="one estimate"):
        accuracy(np.ones(2), np.ones(3), np.zeros(3, int), np.zeros(3, int), np.zeros(3, int), rescale=False)
