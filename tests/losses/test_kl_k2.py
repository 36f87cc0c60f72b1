import numpy as np
import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.losses.kl_k2 import kl_k2

# Three tokens: the policy (0.5, 0.3, 0.2) and the reference (0.4, 0.4, 0.2).
LOGITS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log().requires_grad_()
REFERENCE = torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64)


def estimates():
    return kl_k2(logprob=LOGITS.log_softmax(0), reference_logprob=REFERENCE.log())


def expected_gradient():
    """Mean over tokens drawn from the policy; the probability of the draw itself has no gradient."""
    (gradient,) = torch.autograd.grad((LOGITS.softmax(0).detach() * estimates()).sum(), LOGITS)
    return gradient


def test_values_by_hand():
    #   d = 0.5 and −0.5: 0.5²/2
    logprob = torch.tensor([-1.0, -2.0], dtype=torch.float64)
    reference_logprob = torch.tensor([-1.5, -1.5], dtype=torch.float64)
    found = kl_k2(logprob=logprob, reference_logprob=reference_logprob)
    torch.testing.assert_close(found, torch.tensor([0.125, 0.125], dtype=torch.float64), atol=1e-12, rtol=0)


def test_the_mean_over_the_policy():
    # biased: KL(π‖ref) is 0.0252672
    mean = (LOGITS.softmax(0) * estimates()).sum().item()
    assert mean == pytest.approx(0.0248624, abs=1e-7)


def test_the_expected_gradient_is_that_of_the_reverse_divergence():
    # Fails when the square is not halved.
    (reverse,) = torch.autograd.grad((LOGITS.softmax(0) * (LOGITS.log_softmax(0) - REFERENCE.log())).sum(), LOGITS)
    torch.testing.assert_close(expected_gradient(), reverse)
    np.testing.assert_allclose(expected_gradient(), [0.09894, -0.09388, -0.00505], atol=1e-5)


# Older weights that played: not the policy, and not the reference.
PLAYED = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)


def expected_off_policy_gradient():
    """Mean over tokens that older weights drew, with the ratio."""
    weighted = kl_k2(
        logprob=LOGITS.log_softmax(0),
        reference_logprob=REFERENCE.log(),
        behavior_logprob=PLAYED.log(),
        importance=True,
    )
    (gradient,) = torch.autograd.grad((PLAYED * weighted).sum(), LOGITS)
    return gradient


def test_on_tokens_of_older_weights_the_ratio_makes_the_gradient_that_of_the_reverse_divergence():
    # Fails when the gradient runs through the ratio.
    (expected,) = torch.autograd.grad((LOGITS.softmax(0) * (LOGITS.log_softmax(0) - REFERENCE.log())).sum(), LOGITS)
    torch.testing.assert_close(expected_off_policy_gradient(), expected)


def test_the_ratio_multiplies_the_value(three_tokens):
    tokens = three_tokens([1.5, 0.5])
    given = {"logprob": tokens.logprob(), "reference_logprob": tokens.behavior_logprob.detach() - 0.3}
    plain = kl_k2(**given)
    found = kl_k2(**given, behavior_logprob=tokens.behavior_logprob, importance=True)
    torch.testing.assert_close(found, torch.tensor([1.5, 0.5], dtype=torch.float64) * plain)
    torch.testing.assert_close(kl_k2(**given, behavior_logprob=tokens.behavior_logprob), plain)


def test_the_gradient_by_finite_differences(three_tokens):
    tokens = three_tokens([1.5, 0.5, 1.1])
    reference = tokens.behavior_logprob + torch.tensor([0.4, -0.7, 0.2], dtype=torch.float64)
    given = {"reference_logprob": reference, "behavior_logprob": tokens.behavior_logprob}
    tokens.assert_slope_of_the_value(lambda logprob: kl_k2(logprob=logprob, **given))
    difference = (tokens.logprob().detach() - reference).tolist()
    ratios = [1.5, 0.5, 1.1]
    intended = [ratio * d for d, ratio in zip(difference, ratios, strict=True)]
    tokens.assert_coefficients(lambda logprob: kl_k2(logprob=logprob, **given, importance=True), intended)


def test_importance_needs_to_know_who_played():
    with pytest.raises(UserError, match="importance needs behavior_logprob"):
        kl_k2(logprob=torch.zeros(1), reference_logprob=torch.zeros(1), importance=True)
