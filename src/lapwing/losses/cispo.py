"""The policy gradient with capped importance weights: no token is clipped away."""

import torch

from lapwing.core.errors import UserError
from lapwing.losses._ratios import ratio

MERGEABLE = True
SILENT = True
NEEDS = ()


def cispo(
    *,
    logprob: torch.Tensor,
    behavior_logprob: torch.Tensor,
    advantage: torch.Tensor,
    cap: float = 5.0,
    lower_cap: float | None = None,
) -> torch.Tensor:
    """Weigh the policy gradient of each token by its capped ratio.

        ℓ = −sg(clip(ρ, c_low, c)) · A · logprob,   ρ = exp(logprob − behavior_logprob)

    sg stops the gradient, so that it is −w A ∇logprob with the weight w of the token, for every token: one beyond
    the cap counts with the cap, where the clipped surrogate would drop it. With ρ = 1 it is `policy_gradient`. The
    cap is a ratio itself, not a distance from 1. The paper's aggregation is `token_mean`.

    Provenance: formula and defaults from public code (TRL, with the cap of ScaleRL).

    Reference: MiniMax 2025, "MiniMax-M1". https://arxiv.org/abs/2506.13585; cap: Khatri et al. 2025, "The Art
      of Scaling Reinforcement Learning Compute for LLMs". https://arxiv.org/abs/2510.13786

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats.
      behavior_logprob: the same under the weights that played, [K], nats, no gradient.
      advantage: of each token, [K], no gradient.
      cap: c, positive.
      lower_cap: c_low, in [0, c]; None for none.

    Returns:
      Loss of each token, to be minimised, [K], in units of the advantage times nats.

    Raises:
      UserError: `cap` is not positive, or `lower_cap` lies outside [0, cap].
    """
    if not cap > 0.0:
        raise UserError(f"cap must be positive, but it is {cap}.")
    if lower_cap is not None and not 0.0 <= lower_cap <= cap:
        raise UserError(f"lower_cap must be in [0, cap = {cap}], or left out, but it is {lower_cap}.")
    weight = torch.clamp(ratio(logprob.detach(), behavior_logprob), min=lower_cap, max=cap)
    return -weight * advantage * logprob
