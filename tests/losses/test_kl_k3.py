import numpy as np
import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.losses.kl_k3 import kl_k3

# Three tokens: the policy (0.5, 0.3, 0.2) and the reference (0.4, 0.4, 0.2).
LOGITS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log().requires_grad_()
REFERENCE = torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64)


def estimates():
    return kl_k3(logprob=LOGITS.log_softmax(0), reference_logprob=REFERENCE.log())


def expected_gradient():
    """Mean over tokens drawn from the policy; the probability of the draw itself has no gradient."""
    (gradient,) = torch.autograd.grad((LOGITS.softmax(0).detach() * estimates()).sum(), LOGITS)
    return gradient


def test_values_by_hand():
    #   d = 0.5 and −0.5: e^−0.5 − 1 + 0.5 and e^0.5 − 1 − 0.5
    logprob = torch.tensor([-1.0, -2.0], dtype=torch.float64)
    reference_logprob = torch.tensor([-1.5, -1.5], dtype=torch.float64)
    found = kl_k3(logprob=logprob, reference_logprob=reference_logprob)
    torch.testing.assert_close(found, torch.tensor([0.1065307, 0.1487213], dtype=torch.float64), atol=1e-6, rtol=0)


def test_the_mean_over_the_policy():
    # unbiased: KL(π‖ref) itself
    mean = (LOGITS.softmax(0) * estimates()).sum().item()
    assert mean == pytest.approx(0.0252672, abs=1e-7)


def test_the_expected_gradient_is_that_of_the_forward_divergence():
    # Fails when the log-ratio is turned round. The gradient of KL(ref‖π) in the logits is π − ref.
    (forward,) = torch.autograd.grad((REFERENCE * (REFERENCE.log() - LOGITS.log_softmax(0))).sum(), LOGITS)
    torch.testing.assert_close(expected_gradient(), forward)
    np.testing.assert_allclose(expected_gradient(), [0.1, -0.1, 0.0], atol=1e-9)


def test_it_is_never_negative_and_keeps_its_digits_near_zero():
    #   d²/2 = 5e-21, which exp(−d) − 1 + d would lose entirely
    assert kl_k3(logprob=torch.tensor(1e-6), reference_logprob=torch.tensor(0.0)).item() >= 0
    small = kl_k3(logprob=torch.tensor(1e-5, dtype=torch.float64), reference_logprob=torch.tensor(0.0)).item()
    assert small == pytest.approx(5e-11, rel=1e-4)


def test_a_token_that_became_impossible_does_not_overflow():
    logprob = torch.tensor([-2000.0], requires_grad=True)
    loss = kl_k3(logprob=logprob, reference_logprob=torch.zeros(1))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert logprob.grad is not None
    assert logprob.grad.item() == 0


# Older weights that played: not the policy, and not the reference.
PLAYED = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)


def expected_off_policy_gradient():
    """Mean over tokens that older weights drew, with the ratio."""
    weighted = kl_k3(
        logprob=LOGITS.log_softmax(0),
        reference_logprob=REFERENCE.log(),
        behavior_logprob=PLAYED.log(),
        importance=True,
    )
    (gradient,) = torch.autograd.grad((PLAYED * weighted).sum(), LOGITS)
    return gradient


def test_on_tokens_of_older_weights_the_ratio_makes_the_gradient_that_of_the_reverse_divergence():
    # Fails when the ratio is detached: then it is the forward one.
    (expected,) = torch.autograd.grad((LOGITS.softmax(0) * (LOGITS.log_softmax(0) - REFERENCE.log())).sum(), LOGITS)
    torch.testing.assert_close(expected_off_policy_gradient(), expected)


def test_the_ratio_multiplies_the_value(three_tokens):
    tokens = three_tokens([1.5, 0.5])
    given = {"logprob": tokens.logprob(), "reference_logprob": tokens.behavior_logprob.detach() - 0.3}
    plain = kl_k3(**given)
    found = kl_k3(**given, behavior_logprob=tokens.behavior_logprob, importance=True)
    torch.testing.assert_close(found, torch.tensor([1.5, 0.5], dtype=torch.float64) * plain)
    torch.testing.assert_close(kl_k3(**given, behavior_logprob=tokens.behavior_logprob), plain)


def test_the_gradient_by_finite_differences(three_tokens):
    tokens = three_tokens([1.5, 0.5, 1.1])
    reference = tokens.behavior_logprob + torch.tensor([0.4, -0.7, 0.2], dtype=torch.float64)
    given = {"reference_logprob": reference, "behavior_logprob": tokens.behavior_logprob}
    tokens.assert_slope_of_the_value(lambda logprob: kl_k3(logprob=logprob, **given))
    difference = (tokens.logprob().detach() - reference).tolist()
    ratios = [1.5, 0.5, 1.1]
    intended = [ratio * d for d, ratio in zip(difference, ratios, strict=True)]
    tokens.assert_coefficients(lambda logprob: kl_k3(logprob=logprob, **given, importance=True), intended)


def test_importance_needs_to_know_who_played():
    with pytest.raises(UserError, match="importance needs behavior_logprob"):
        kl_k3(logprob=torch.zeros(1), reference_logprob=torch.zeros(1), importance=True)


@pytest.mark.parametrize(("log_ratio", "value"), [(-2.0, 4.389056), (-3.0, 10.0), (-30.0, 10.0), (12.0, 10.0)])
def test_the_value_is_bounded(log_ratio, value):
    #   e² − 1 − 2 is inside; at −3 it would be 16.1, at 12 11.0
    logprob = torch.tensor([log_ratio], dtype=torch.float64, requires_grad=True)
    loss = kl_k3(logprob=logprob, reference_logprob=torch.zeros(1))
    loss.sum().backward()
    assert loss.item() == pytest.approx(value, abs=1e-6)
    assert logprob.grad is not None
    assert (logprob.grad.item() == 0) is (value == 10.0)


def test_the_bound_is_a_setting_and_holds_before_the_ratio():
    given = {"logprob": torch.tensor([-3.0]), "reference_logprob": torch.zeros(1)}
    assert kl_k3(**given, max_value=None).item() == pytest.approx(16.085537)
    assert kl_k3(**given, max_value=2.0).item() == 2.0
    #   ρ = 3: 3·2, and not min(3·16.1, 2)
    played = torch.tensor([-3.0 - 1.0986123])
    assert kl_k3(**given, behavior_logprob=played, importance=True, max_value=2.0).item() == pytest.approx(6.0)


@pytest.mark.parametrize("max_value", [0.0, -1.0])
def test_wrong_settings_are_refused_with_one_sentence(max_value):
    with pytest.raises(UserError, match="max_value must be positive"):
        kl_k3(logprob=torch.zeros(1), reference_logprob=torch.zeros(1), max_value=max_value)
