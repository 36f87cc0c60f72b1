import pytest
import torch

from lapwing.losses.entropy import entropy


def entropy_of(logits):
    logprob = torch.log_softmax(logits, -1)
    return -(logprob.exp() * logprob).sum(-1)


def test_the_value_by_hand():
    #   −(0.5 ln 0.5 + 0.3 ln 0.3 + 0.2 ln 0.2) = 1.02965
    token_entropy = entropy_of(torch.tensor([[0.5, 0.3, 0.2]]).log())
    assert entropy(token_entropy=token_entropy).item() == pytest.approx(-1.02965, abs=1e-5)


def test_a_step_downhill_raises_the_entropy():
    # Fails when the sign is wrong.
    logits = torch.tensor([2.0, 0.0, -1.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(entropy(token_entropy=entropy_of(logits)).sum(), logits)
    assert entropy_of(logits - 0.1 * gradient).item() > entropy_of(logits).item()
