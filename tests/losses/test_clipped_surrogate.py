import math

import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.losses.clipped_surrogate import clipped_surrogate
from lapwing.losses.policy_gradient import policy_gradient


def value_and_slope(ratio, advantage, **settings):
    """Loss of one token and its derivative with respect to logprob."""
    logprob = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    given = {"behavior_logprob": torch.zeros(1), "advantage": torch.tensor([advantage], dtype=torch.float64)}
    loss = clipped_surrogate(logprob=logprob, **given, **settings)
    loss.sum().backward()
    assert logprob.grad is not None
    return loss.item(), logprob.grad.item()


QUADRANTS = [
    #   ρ A = 1.5, clipped 1.2 is less: flat
    (1.5, 1.0, -1.2, 0.0),
    #   ρ A = −1.5 is less than the clipped −1.2: slope −A ρ
    (1.5, -1.0, 1.5, 1.5),
    #   ρ A = 0.5 is less than the clipped 0.8: slope −A ρ
    (0.5, 1.0, -0.5, -0.5),
    #   ρ A = −0.5, clipped −0.8 is less: flat
    (0.5, -1.0, 0.8, 0.0),
]
QUADRANT_NAMES = ["up and good", "up and bad", "down and good", "down and bad"]


@pytest.mark.parametrize(("ratio", "advantage", "value", "slope"), QUADRANTS, ids=QUADRANT_NAMES)
def test_the_four_quadrants_by_hand(ratio, advantage, value, slope):
    # Fails when the clip is removed, or the minimum becomes a maximum.
    assert value_and_slope(ratio, advantage) == pytest.approx((value, slope))


@pytest.mark.parametrize(("ratio", "advantage"), [quadrant[:2] for quadrant in QUADRANTS], ids=QUADRANT_NAMES)
def test_the_slopes_agree_with_finite_differences(ratio, advantage):
    step = 1e-5
    above, _ = value_and_slope(ratio * math.exp(step), advantage)
    below, _ = value_and_slope(ratio * math.exp(-step), advantage)
    assert value_and_slope(ratio, advantage)[1] == pytest.approx((above - below) / (2 * step), abs=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "symmetric", "higher"),
    [(1.25, 1.0, -1.2, -1.25), (1.35, 1.0, -1.2, -1.28), (0.7, -1.0, 0.8, 0.8), (1.35, -1.0, 1.35, 1.35)],
)
def test_published_numbers_of_the_higher_upper_bound(ratio, advantage, symmetric, higher):
    # Fails when one bound is used for both sides, or the clip is removed.
    assert value_and_slope(ratio, advantage)[0] == pytest.approx(symmetric)
    assert value_and_slope(ratio, advantage, clip_high=0.28)[0] == pytest.approx(higher)


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [
        (4.0, -1.0, 3.0, 0.0),
        (2.5, -1.0, 2.5, 2.5),
        (4.0, 1.0, -1.2, 0.0),
        (0.5, -1.0, 0.8, 0.0),
        (0.5, 1.0, -0.5, -0.5),
    ],
    ids=["bound by 3", "below the bound", "good tokens unchanged", "clipped below", "down and good"],
)
def test_the_dual_clip_bounds_bad_tokens_that_became_likely(ratio, advantage, value, slope):
    # Fails when the dual clip is removed, or touches tokens with positive advantage.
    assert value_and_slope(ratio, advantage, dual_clip=3.0) == pytest.approx((value, slope))


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [(6.0, -1.0, 4.0, 0.0), (3.0, -1.0, 3.0, 3.0), (6.0, 1.0, -1.2, 0.0), (0.5, 1.0, -0.5, -0.5)],
    ids=["bound by 4", "below the cap", "good tokens unchanged", "down and good"],
)
def test_the_two_sided_cap_bounds_bad_tokens_that_became_likely(ratio, advantage, value, slope):
    # Fails when the cap is left out, or is put on the clipped ratio.
    assert value_and_slope(ratio, advantage, max_ratio=4.0) == pytest.approx((value, slope))


@pytest.mark.parametrize("ratio", [0.1, 0.9, 2.0, 5.0, 50.0])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_the_cap_and_the_dual_clip_are_one_bound(ratio, advantage):
    assert value_and_slope(ratio, advantage, max_ratio=3.0) == value_and_slope(ratio, advantage, dual_clip=3.0)


def test_at_the_weights_that_played_the_gradient_is_minus_advantage_times_score():
    # A softmax policy over 4 tokens; the update is the mean over 6 sampled tokens.
    logits = torch.randn(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    token = torch.tensor([0, 3, 1, 1, 2, 0])
    advantage = torch.tensor([1.0, -2.0, 0.5, -0.5, 0.0, 3.0], dtype=torch.float64)
    logprob = torch.log_softmax(logits, 0)[token]
    loss = clipped_surrogate(logprob=logprob, behavior_logprob=logprob.detach(), advantage=advantage).mean()
    (found,) = torch.autograd.grad(loss, logits)
    #   ∇ log π(k) = 1_k − π
    score = torch.eye(4, dtype=torch.float64)[token] - torch.softmax(logits.detach(), 0)
    torch.testing.assert_close(found, -(advantage[:, None] * score).mean(0))


def test_with_wide_bounds_it_is_importance_weighted_policy_gradient():
    generator = torch.Generator().manual_seed(1)
    logprob = torch.randn(20, generator=generator, dtype=torch.float64, requires_grad=True)
    behavior, advantage = torch.randn(2, 20, generator=generator, dtype=torch.float64)
    loss = clipped_surrogate(
        logprob=logprob, behavior_logprob=behavior, advantage=advantage, clip_low=1.0, clip_high=1e9
    )
    ratio = torch.exp(logprob.detach() - behavior)
    (found,) = torch.autograd.grad(loss.sum(), logprob)
    plain = policy_gradient(logprob=logprob, behavior_logprob=behavior, advantage=advantage)
    (expected,) = torch.autograd.grad((ratio * plain).sum(), logprob)
    torch.testing.assert_close(found, expected)


def test_the_scale_of_the_log_ratio_cannot_overflow():
    assert all(math.isfinite(x) for x in value_and_slope(math.exp(700), -1.0))
    assert value_and_slope(math.exp(700), -1.0)[0] == pytest.approx(math.exp(20))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_low": -0.1}, r"clip_low must be in \[0, 1\]"),
        ({"clip_low": 1.1}, r"clip_low must be in \[0, 1\]"),
        ({"clip_high": -0.1}, "clip_high must be at least 0"),
        ({"dual_clip": 1.0}, "dual_clip must be above 1"),
        ({"max_ratio": 1.2}, r"max_ratio must be above 1 \+ clip_high = 1.2"),
    ],
)
def test_wrong_settings_are_refused_with_one_sentence(settings, message):
    with pytest.raises(UserError, match=message):
        value_and_slope(1.0, 1.0, **settings)
