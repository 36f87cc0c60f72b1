"""The log-ratio to the reference policy, an unbiased estimate of the KL divergence with a useless gradient."""

import torch

MERGEABLE = True
NEEDS = ("reference_logprob",)


def kl_k1(*, logprob: torch.Tensor, reference_logprob: torch.Tensor) -> torch.Tensor:
    """Log-ratio of the trained policy to the reference policy at the sampled token.

        k1 = d,   d = logprob − reference_logprob

    On tokens drawn from the trained policy its mean is KL(π‖ref); single values may be negative. As a loss its
    gradient is ∇logprob, whose mean is 0: it adds noise and regularises nothing. It belongs into the reward, or
    into a log; for a loss take `kl_k2` or `kl_k3`.

    Reference: Schulman 2020, "Approximating KL Divergence". http://joschu.net/blog/kl-approx.html; gradients: Tang
      and Munos 2025, "On a few pitfalls in KL divergence gradient estimation for RL".
      https://arxiv.org/abs/2506.09477

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats.
      reference_logprob: the same under the reference weights, [K], nats, no gradient.

    Returns:
      Estimate at each token, to be minimised, [K], nats.
    """
    return logprob - reference_logprob
