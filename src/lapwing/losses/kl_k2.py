"""Half the squared log-ratio, whose gradient is that of the reverse KL divergence."""

import torch

from lapwing.losses._ratios import weighted

MERGEABLE = True
NEEDS = ("reference_logprob",)


def kl_k2(
    *,
    logprob: torch.Tensor,
    reference_logprob: torch.Tensor,
    behavior_logprob: torch.Tensor | None = None,
    importance: bool = False,
) -> torch.Tensor:
    """Half the squared log-ratio of the trained policy to the reference policy at the sampled token.

        k2 = d² / 2,   d = logprob − reference_logprob

    As a value it is a biased estimate of KL(π‖ref) with little variance; it is never negative. As a loss, on tokens
    drawn from the trained policy, its gradient d ∇logprob has the mean ∇KL(π‖ref) exactly. With `importance` it is
    sg(ρ) d² / 2, ρ = exp(logprob − behavior_logprob), which has this gradient on tokens of older weights too; sg stops
    the gradient of the ratio (that of ρ d² / 2 would be another).

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
      Estimate at each token, to be minimised, [K], nats².

    Raises:
      UserError: `importance` is asked for without `behavior_logprob`.
    """
    estimate = 0.5 * (logprob - reference_logprob) ** 2
    return weighted(estimate, logprob.detach(), behavior_logprob) if importance else estimate
