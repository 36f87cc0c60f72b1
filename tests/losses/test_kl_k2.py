import numpy as np
import pytest
import torch

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
