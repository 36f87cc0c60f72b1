import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.dr_grpo import dr_grpo
from lapwing.credit.dr_rpo import (
    dr_rpo,
    kl_softmax_target,
    robust_value_kl,
    robust_value_tv,
    worst_weights_kl,
    worst_weights_tv,
)
from lapwing.testing import episodes

PRINTED = np.array([1.0, 1.0, 0.0, 1.0])
numbers = st.lists(st.integers(-4, 4).map(lambda n: n / 2), min_size=1, max_size=6).map(np.array)


def dual_kl(values, radius):
    """The supremum over a fine grid of λ."""
    scale = np.exp(np.linspace(-12, 14, 8001))[:, None]
    least = values.min()
    return np.max(least - scale[:, 0] * (np.log(np.exp(-(values - least) / scale).mean(axis=1)) + radius))


def dual_tv(values, radius):
    """The maximum over the values of a, where it is attained."""
    return max(np.minimum(values, a).mean() - radius * (a - values.min()) for a in values)


def test_the_printed_values():
    assert robust_value_kl(PRINTED, 0.05) == pytest.approx(0.6060, abs=5e-5)
    assert robust_value_tv(PRINTED, 0.1) == pytest.approx(0.65, abs=1e-12)
    assert robust_value_kl(PRINTED, 0.0) == robust_value_tv(PRINTED, 0.0) == 0.75


def test_the_printed_policy_and_its_value():
    policy, value = kl_softmax_target(np.array([1.0, 0.0]), np.array([0.5, 0.5]), 0.5)
    np.testing.assert_allclose(policy, [0.8807971, 0.1192029], atol=1e-6)
    assert value == pytest.approx(0.71689, abs=5e-6)


def test_the_policy_of_several_states_and_of_huge_values():
    policy, value = kl_softmax_target(np.array([[1e4, 0.0], [0.0, 0.0]]), np.array([[0.5, 0.5], [0.2, 0.8]]), 1.0)
    np.testing.assert_allclose(policy, [[1, 0], [0.2, 0.8]])
    np.testing.assert_allclose(value, [1e4 + np.log(0.5), 0], atol=1e-9)


@given(numbers, st.floats(0, 2))
def test_the_weights_reach_the_dual_of_the_kl_ball(values, radius):
    weight = worst_weights_kl(values, radius)
    assert weight.sum() == pytest.approx(1)
    assert (weight >= 0).all()
    positive = weight[weight > 0]
    assert (positive * np.log(positive * len(values))).sum() <= radius + 1e-9
    assert robust_value_kl(values, radius) >= dual_kl(values, radius) - 1e-9
    assert robust_value_kl(values, radius) == pytest.approx(dual_kl(values, radius), abs=1e-4)


@given(numbers, st.floats(0, 1))
def test_the_weights_reach_the_dual_of_the_tv_ball(values, radius):
    weight = worst_weights_tv(values, radius)
    assert weight.sum() == pytest.approx(1)
    assert (weight >= -1e-12).all()
    assert np.abs(weight - 1 / len(values)).sum() / 2 <= radius + 1e-12
    assert robust_value_tv(values, radius) == pytest.approx(dual_tv(values, radius), abs=1e-9)


@given(numbers, st.floats(0, 1), st.floats(0, 1))
def test_a_robust_value_falls_as_the_ball_grows_and_never_exceeds_the_mean(values, first, second):
    small, large = sorted((first, second))
    for value in (robust_value_kl, robust_value_tv):
        assert value(values, 0.0) == pytest.approx(values.mean(), abs=1e-12)
        assert values.min() - 1e-9 <= value(values, large) <= value(values, small) + 1e-9 <= values.mean() + 2e-9


@given(numbers, st.floats(-3, 3))
def test_a_shift_of_the_values_shifts_the_robust_value(values, shift):
    assert robust_value_kl(values + shift, 0.1) == pytest.approx(robust_value_kl(values, 0.1) + shift, abs=1e-6)


def test_the_advantages_by_hand():
    # Fails when the weights are the mean's, or the baseline is not under them.
    #   TV, ρ = .1: q = (¼ − .1/3, …, .35, …), b = .65:  4 · .2166667 · .35 and 4 · .35 · (−.65)
    batch = episodes([[float(r)] for r in PRINTED])
    expected = [0.3033333, 0.3033333, -0.91, 0.3033333]
    np.testing.assert_allclose(dr_rpo(batch, radius=0.1, ball="tv"), expected, atol=1e-6)
    #   KL: b = .6060, q of the failure .3940
    expected = [4 * 0.6060 / 3 * 0.3940] * 2 + [-4 * 0.3940 * 0.6060, 4 * 0.6060 / 3 * 0.3940]
    np.testing.assert_allclose(dr_rpo(batch), expected, atol=2e-4)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 2)), min_size=1, max_size=9))
def test_without_a_ball_it_is_the_plain_baseline(drawn):
    batch = episodes([[float(r)] for r, _ in drawn], group=[g for _, g in drawn])
    for ball in ("kl", "tv"):
        np.testing.assert_allclose(dr_rpo(batch, radius=0.0, ball=ball), dr_grpo(batch), atol=1e-9)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 2)), min_size=1, max_size=9), st.floats(0, 1))
def test_the_advantages_of_a_group_add_up_to_zero(drawn, radius):
    batch = episodes([[float(r)] for r, _ in drawn], group=[g for _, g in drawn])
    for ball in ("kl", "tv"):
        found = dr_rpo(batch, radius=radius, ball=ball)
        np.testing.assert_allclose(np.bincount(batch.group, weights=found), 0, atol=1e-9)


def test_a_failure_weighs_more_than_under_the_mean_and_a_success_less():
    batch = episodes([[float(r)] for r in PRINTED])
    plain, robust = dr_grpo(batch), dr_rpo(batch)
    assert robust[2] < plain[2] < 0
    assert 0 < plain[0] < robust[0] or robust[0] > 0


def test_a_ball_that_holds_the_worst_return_alone_has_nothing_to_teach():
    batch = episodes([[0.0], [1.0]])
    np.testing.assert_allclose(dr_rpo(batch, radius=5.0), [0, 0], atol=1e-12)


def test_equal_returns_give_exactly_zero():
    np.testing.assert_array_equal(dr_rpo(episodes([[0.1], [0.1], [0.1], [7.0]], group=[0, 0, 0, 1])), np.zeros(4))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"radius": -1.0}, "radius must be finite"),
        ({"radius": float("nan")}, "radius must be finite"),
        ({"radius": 1.5, "ball": "tv"}, "radius is a probability of at most 1"),
        ({"ball": "chi2"}, "no ball 'chi2'; valid names: kl, tv"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        dr_rpo(episodes([[0.0], [1.0]]), **settings)


def test_wrong_numbers_are_refused():
    with pytest.raises(UserError, match="one or more finite numbers"):
        robust_value_kl(np.array([]), 0.1)
    with pytest.raises(UserError, match="beta must be"):
        kl_softmax_target(np.zeros(2), np.full(2, 0.5), 0.0)
    with pytest.raises(UserError, match="reference must hold probabilities"):
        kl_softmax_target(np.zeros(2), np.full(2, 0.4), 1.0)
