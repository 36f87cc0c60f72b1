import pytest
import torch

from lapwing.losses.kl_k1 import kl_k1

# Three tokens: the policy (0.5, 0.3, 0.2) and the reference (0.4, 0.4, 0.2).
LOGITS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log().requires_grad_()
REFERENCE = torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64)


def estimates():
    return kl_k1(logprob=LOGITS.log_softmax(0), reference_logprob=REFERENCE.log())


def expected_gradient():
    """Mean over tokens drawn from the policy; the probability of the draw itself has no gradient."""
    (gradient,) = torch.autograd.grad((LOGITS.softmax(0).detach() * estimates()).sum(), LOGITS)
    return gradient


def test_values_by_hand():
    #   d = 0.5 and −0.5: d itself
    logprob = torch.tensor([-1.0, -2.0], dtype=torch.float64)
    reference_logprob = torch.tensor([-1.5, -1.5], dtype=torch.float64)
    found = kl_k1(logprob=logprob, reference_logprob=reference_logprob)
    torch.testing.assert_close(found, torch.tensor([0.5, -0.5], dtype=torch.float64), atol=1e-12, rtol=0)


def test_the_mean_over_the_policy():
    # unbiased: KL(π‖ref) itself
    mean = (LOGITS.softmax(0) * estimates()).sum().item()
    assert mean == pytest.approx(0.0252672, abs=1e-7)


def test_the_expected_gradient_is_zero():
    # The score has mean 0 under the policy itself, so as a loss k1 regularises nothing.
    torch.testing.assert_close(expected_gradient(), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
