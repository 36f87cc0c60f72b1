import math

import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.losses.cispo import cispo
from lapwing.losses.policy_gradient import policy_gradient

RATIO = [0.5, 1.2, 7.0]


def loss_of(tokens, advantage, **settings):
    advantage = torch.tensor(advantage, dtype=torch.float64)
    return lambda logprob: cispo(
        logprob=logprob, behavior_logprob=tokens.behavior_logprob, advantage=advantage, **settings
    )


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_every_token_has_the_gradient_of_its_capped_weight(three_tokens, advantage):
    # Fails when the weight is not detached, or a token beyond the cap loses its gradient: weights 0.5, 1.2, 5.
    tokens = three_tokens(RATIO)
    loss = loss_of(tokens, [advantage] * 3)
    tokens.assert_coefficients(loss, [-advantage * weight for weight in (0.5, 1.2, 5.0)])
    weights = [
        -loss / (advantage * lp) for loss, lp in zip(tokens.values(loss), tokens.logprob().tolist(), strict=True)
    ]
    assert weights == pytest.approx([0.5, 1.2, 5.0])


def test_the_lower_cap_raises_small_weights(three_tokens):
    tokens = three_tokens(RATIO)
    tokens.assert_coefficients(loss_of(tokens, [1.0, 2.0, 1.0], lower_cap=0.8, cap=1.1), [-0.8, -2.2, -1.1])


def test_at_the_weights_that_played_it_is_reinforce():
    generator = torch.Generator().manual_seed(0)
    logprob = -torch.rand(20, generator=generator, dtype=torch.float64)
    given = {
        "logprob": logprob.requires_grad_(),
        "behavior_logprob": logprob.detach(),
        "advantage": torch.randn(20, generator=generator, dtype=torch.float64),
    }
    torch.testing.assert_close(cispo(**given), policy_gradient(**given))
    (found,), (expected,) = (torch.autograd.grad(loss(**given).sum(), logprob) for loss in (cispo, policy_gradient))
    torch.testing.assert_close(found, expected)


def test_a_ratio_that_would_overflow_counts_with_the_cap():
    logprob = torch.zeros(1, requires_grad=True)
    loss = cispo(logprob=logprob, behavior_logprob=torch.tensor([-1000.0]), advantage=torch.ones(1))
    loss.sum().backward()
    assert logprob.grad is not None
    assert logprob.grad.item() == -5.0
    assert math.isfinite(loss.item())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cap": 0.0}, "cap must be positive"),
        ({"lower_cap": -0.1}, r"lower_cap must be in \[0, cap = 5.0\]"),
        ({"lower_cap": 2.0, "cap": 1.0}, r"lower_cap must be in \[0, cap = 1.0\]"),
    ],
)
def test_wrong_settings_are_refused_with_one_sentence(settings, message):
    zero = torch.zeros(1)
    with pytest.raises(UserError, match=message):
        cispo(logprob=zero, behavior_logprob=zero, advantage=zero, **settings)
