"""The estimator of GRPO: unbiased, never negative, with the gradient of the forward KL divergence."""

import torch

from lapwing.core.errors import UserError
from lapwing.losses._ratios import LARGEST, weighted

MERGEABLE = True
NEEDS = ("reference_logprob",)


def kl_k3(
    *,
    logprob: torch.Tensor,
    reference_logprob: torch.Tensor,
    behavior_logprob: torch.Tensor | None = None,
    importance: bool = False,
    max_value: float | None = 10.0,
) -> torch.Tensor:
    """Log-ratio with a control variate that makes it positive, at the sampled token.

        k3 = min(exp(−d) − 1 + d, 10),   d = logprob − reference_logprob

    On tokens drawn from the trained policy its mean is KL(π‖ref), and it is never negative. As a loss its gradient
    (1 − exp(−d)) ∇logprob has the mean ∇KL(ref‖π): it pulls as the forward divergence does, not as the one that it
    estimates. At the bound (d = −2.61, or d = 11) it is constant, with gradient 0: a token that is far off does not
    drown the others, but is not pulled back either. Without a bound it is constant below d = −20, so that it does not
    overflow. With `importance` it is ρ k3, ρ = exp(logprob − behavior_logprob), whose gradient runs through ρ too: its
    mean over tokens of older weights is KL(π‖ref), and the mean of its gradient is ∇KL(π‖ref), the reverse one.

    Provenance: formula and defaults from public code (TRL, verl); estimators as Schulman has them.

    Reference: Schulman 2020, "Approximating KL Divergence". http://joschu.net/blog/kl-approx.html; as a loss: Shao
      et al. 2024, "DeepSeekMath", eq. 4. https://arxiv.org/abs/2402.03300; gradients: Tang and Munos 2025, "On a
      few pitfalls in KL divergence gradient estimation for RL". https://arxiv.org/abs/2506.09477; importance:
      DeepSeek-AI 2025, "DeepSeek-V3.2". https://arxiv.org/abs/2512.02556

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats.
      reference_logprob: the same under the reference weights, [K], nats, no gradient.
      behavior_logprob: the same under the weights that played, [K], nats, no gradient; for `importance` alone.
      importance: multiply by the ratio of the weights being trained to those that played.
      max_value: bound of k3 before that ratio, positive; None for none.

    Returns:
      Estimate at each token, to be minimised, [K], nats.

    Raises:
      UserError: `max_value` is not positive, or `importance` is asked for without `behavior_logprob`.
    """
    if max_value is not None and not max_value > 0.0:
        raise UserError(f"max_value must be positive, or left out, but it is {max_value}.")
    log_ratio = torch.clamp(logprob - reference_logprob, min=-LARGEST)
    # expm1, because near d = 0 the value is d²/2, the difference of numbers near 1.
    estimate = torch.expm1(-log_ratio) + log_ratio
    if max_value is not None:
        estimate = torch.clamp(estimate, max=max_value)
    return weighted(estimate, logprob, behavior_logprob) if importance else estimate
