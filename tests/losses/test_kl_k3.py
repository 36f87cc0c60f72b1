import numpy as np
import pytest
import torch

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
