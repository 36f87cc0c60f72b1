"""The clipped surrogate of PPO, per token."""

import torch

from lapwing.core.errors import UserError

MERGEABLE = True
SILENT = True
NEEDS = ()


def clipped_surrogate(
    *,
    logprob: torch.Tensor,
    behavior_logprob: torch.Tensor,
    advantage: torch.Tensor,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
) -> torch.Tensor:
    """Take the worse of the surrogate and the surrogate with its ratio held near 1.

        ρ = exp(logprob − behavior_logprob)
        ℓ = −min(ρ A, clip(ρ, 1 − ε_low, 1 + ε_high) A)
        ℓ = min(ℓ, −c A)   where A < 0, with a dual clip c

    Where the update has already gone far enough in the direction that the advantage asks for (ρ > 1 + ε_high and
    A > 0, or ρ < 1 − ε_low and A < 0) the gradient is 0; where it went the wrong way it is not. With ρ = 1 the
    gradient is −A ∇logprob. The dual clip bounds the loss of tokens with A < 0 that became much more likely. The
    log-ratio is held within ±20, so that no ratio overflows.

    Reference: Schulman et al. 2017, "Proximal Policy Optimization Algorithms", eq. 7.
      https://arxiv.org/abs/1707.06347; two bounds: Yu et al. 2025 (DAPO), section 3.1.
      https://arxiv.org/abs/2503.14476; dual clip: Ye et al. 2020, "Mastering Complex Control in MOBA Games with
      Deep Reinforcement Learning". https://arxiv.org/abs/1912.09729

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats.
      behavior_logprob: the same under the weights that played, [K], nats, no gradient.
      advantage: of each token, [K], no gradient.
      clip_low: ε_low, in [0, 1].
      clip_high: ε_high, ≥ 0.
      dual_clip: c, > 1 (3 is usual); None for no dual clip.

    Returns:
      Loss of each token, to be minimised, [K], in units of the advantage.

    Raises:
      UserError: `clip_low` lies outside [0, 1], `clip_high` is negative, or `dual_clip` is not above 1.
    """
    if not 0.0 <= clip_low <= 1.0:
        raise UserError(f"clip_low must be in [0, 1], but it is {clip_low}.")
    if not clip_high >= 0.0:
        raise UserError(f"clip_high must be at least 0, but it is {clip_high}.")
    if dual_clip is not None and not dual_clip > 1.0:
        raise UserError(f"dual_clip must be above 1, or left out, but it is {dual_clip}.")
    ratio = torch.exp(torch.clamp(logprob - behavior_logprob, -20.0, 20.0))
    clipped = torch.clamp(ratio, 1.0 - clip_low, 1.0 + clip_high)
    loss = -torch.minimum(ratio * advantage, clipped * advantage)
    if dual_clip is None:
        return loss
    return torch.where(advantage < 0, torch.minimum(loss, -dual_clip * advantage), loss)
