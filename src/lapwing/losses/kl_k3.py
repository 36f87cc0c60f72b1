"""The estimator of GRPO: unbiased, never negative, with the gradient of the forward KL divergence."""

import torch

MERGEABLE = True
NEEDS = ("reference_logprob",)


def kl_k3(*, logprob: torch.Tensor, reference_logprob: torch.Tensor) -> torch.Tensor:
    """Log-ratio with a control variate that makes it positive, at the sampled token.

        k3 = exp(−d) − 1 + d,   d = logprob − reference_logprob

    On tokens drawn from the trained policy its mean is KL(π‖ref), and it is never negative. As a loss its gradient
    (1 − exp(−d)) ∇logprob has the mean ∇KL(ref‖π): it pulls as the forward divergence does, not as the one that it
    estimates. Below d = −20 it is constant, with gradient 0, so that it does not overflow.

    Reference: Schulman 2020, "Approximating KL Divergence". http://joschu.net/blog/kl-approx.html; as a loss: Shao
      et al. 2024, "DeepSeekMath", eq. 4. https://arxiv.org/abs/2402.03300; gradients: Tang and Munos 2025, "On a
      few pitfalls in KL divergence gradient estimation for RL". https://arxiv.org/abs/2506.09477

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats.
      reference_logprob: the same under the reference weights, [K], nats, no gradient.

    Returns:
      Estimate at each token, to be minimised, [K], nats.
    """
    log_ratio = torch.clamp(logprob - reference_logprob, min=-20.0)
    # expm1, because near d = 0 the value is d²/2, the difference of numbers near 1.
    return torch.expm1(-log_ratio) + log_ratio
