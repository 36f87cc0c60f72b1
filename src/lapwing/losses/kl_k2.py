"""Half the squared log-ratio, whose gradient is that of the reverse KL divergence."""

import torch

MERGEABLE = True
NEEDS = ("reference_logprob",)


def kl_k2(*, logprob: torch.Tensor, reference_logprob: torch.Tensor) -> torch.Tensor:
    """Half the squared log-ratio of the trained policy to the reference policy at the sampled token.

        k2 = d² / 2,   d = logprob − reference_logprob

    As a value it is a biased estimate of KL(π‖ref) with little variance; it is never negative. As a loss, on tokens
    drawn from the trained policy, its gradient d ∇logprob has the mean ∇KL(π‖ref) exactly.

    Reference: Schulman 2020, "Approximating KL Divergence". http://joschu.net/blog/kl-approx.html; gradients: Tang
      and Munos 2025, "On a few pitfalls in KL divergence gradient estimation for RL".
      https://arxiv.org/abs/2506.09477

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats.
      reference_logprob: the same under the reference weights, [K], nats, no gradient.

    Returns:
      Estimate at each token, to be minimised, [K], nats².
    """
    return 0.5 * (logprob - reference_logprob) ** 2
