"""The log-ratio to the reference policy, an unbiased estimate of the KL divergence with a useless gradient."""

import torch

from lapwing.losses._ratios import weighted

MERGEABLE = True
NEEDS = ("reference_logprob",)


def kl_k1(
    *,
    logprob: torch.Tensor,
    reference_logprob: torch.Tensor,
    behavior_logprob: torch.Tensor | None = None,
    importance: bool = False,
) -> torch.Tensor:
    """Log-ratio of the trained policy to the reference policy at the sampled token.

        k1 = d,   d = logprob − reference_logprob

    On tokens drawn from the trained policy its mean is KL(π‖ref); single values may be negative. As a loss its
    gradient is ∇logprob, whose mean is 0: it adds noise and regularises nothing. It belongs into the reward, or
    into a log; for a loss take `kl_k2` or `kl_k3`. With `importance` it is ρ d, ρ = exp(logprob − behavior_logprob):
    its mean over tokens of older weights is KL(π‖ref) too, and so the mean of its gradient (d + 1) ρ ∇logprob is
    ∇KL(π‖ref).

    Provenance: formula and defaults from public code (TRL); estimators as Schulman has them.

    Reference: Schulman 2020, "Approximating KL Divergence". http://joschu.net/blog/kl-approx.html; gradients: Tang
      and Munos 2025, "On a few pitfalls in KL divergence gradient estimation for RL".
      https://arxiv.org/abs/2506.09477

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats.
      reference_logprob: the same under the reference weights, [K], nats, no gradient.
      behavior_logprob: the same under the weights that played, [K], nats, no gradient; for `importance` alone.
      importance: multiply by the ratio of the weights being trained to those that played.

    Returns:
      Estimate at each token, to be minimised, [K], nats.

    Raises:
      UserError: `importance` is asked for without `behavior_logprob`.
    """
    estimate = logprob - reference_logprob
    return weighted(estimate, logprob, behavior_logprob) if importance else estimate
