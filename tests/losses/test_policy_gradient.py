import torch

from lapwing.losses.policy_gradient import policy_gradient


def test_value_and_slope_by_hand():
    # Fails when the sign is wrong, or when a ratio is put in.
    logprob = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor([3.0, -0.5], dtype=torch.float64)
    loss = policy_gradient(logprob=logprob, behavior_logprob=torch.zeros(2), advantage=advantage)
    #   −3 · (−1) = 3,  0.5 · (−2) = −1;  slopes −A
    torch.testing.assert_close(loss.detach(), torch.tensor([3.0, -1.0], dtype=torch.float64))
    loss.sum().backward()
    torch.testing.assert_close(logprob.grad, -advantage)
