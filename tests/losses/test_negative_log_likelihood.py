import torch

from lapwing.losses.negative_log_likelihood import negative_log_likelihood
from lapwing.losses.policy_gradient import policy_gradient


def test_it_is_the_policy_gradient_with_advantage_one():
    # Fails when the sign is wrong.
    logprob = torch.tensor([-0.5, -3.0])
    loss = negative_log_likelihood(logprob=logprob)
    torch.testing.assert_close(loss, torch.tensor([0.5, 3.0]))
    expected = policy_gradient(logprob=logprob, behavior_logprob=logprob, advantage=torch.ones(2))
    torch.testing.assert_close(loss, expected)
