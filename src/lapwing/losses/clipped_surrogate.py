"""The clipped surrogate of PPO, per token."""

import torch

from lapwing.core.errors import UserError
from lapwing.losses._ratios import ratio

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
    max_ratio: float | None = None,
) -> torch.Tensor:
    """Take the worse of the surrogate and the surrogate with its ratio held near 1.

        ρ = exp(logprob − behavior_logprob)
        ℓ = −min(min(ρ, δ) A, clip(ρ, 1 − ε_low, 1 + ε_high) A)
        ℓ = min(ℓ, −c A)   where A < 0, with a dual clip c

    Where the update has already gone far enough in the direction that the advantage asks for (ρ > 1 + ε_high and
    A > 0, or ρ < 1 − ε_low and A < 0) the gradient is 0; where it went the wrong way it is not. With ρ = 1 the
    gradient is −A ∇logprob. The dual clip and the cap δ each bound the loss of tokens with A < 0 that became much
    more likely, at −c A and −δ A; beyond the bound they have no gradient. The log-ratio is held within ±20, so that
    no ratio overflows. PPO and GRPO have equal bounds; DAPO's clip-higher is ε_low = 0.2, ε_high = 0.28.

    Provenance: formula and defaults from public code (TRL, verl).

    Reference: Schulman et al. 2017, "Proximal Policy Optimization Algorithms", eq. 7.
      https://arxiv.org/abs/1707.06347; two bounds: Yu et al. 2025 (DAPO), section 3.1.
      https://arxiv.org/abs/2503.14476; dual clip: Ye et al. 2020, "Mastering Complex Control in MOBA Games with
      Deep Reinforcement Learning". https://arxiv.org/abs/1912.09729; cap: Prime Intellect 2025, "INTELLECT-2".
      https://arxiv.org/abs/2505.07291

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats.
      behavior_logprob: the same under the weights that played, [K], nats, no gradient.
      advantage: of each token, [K], no gradient.
      clip_low: ε_low, in [0, 1].
      clip_high: ε_high, ≥ 0.
      dual_clip: c, > 1 (3 is usual); None for no dual clip.
      max_ratio: δ, > 1 + ε_high (4 is usual); None for no cap.

    Returns:
      Loss of each token, to be minimised, [K], in units of the advantage.

    Raises:
      UserError: `clip_low` lies outside [0, 1], `clip_high` is negative, `dual_clip` is not above 1, or
        `max_ratio` is not above 1 + `clip_high`.
    """
    if not 0.0 <= clip_low <= 1.0:
        raise UserError(f"clip_low must be in [0, 1], but it is {clip_low}.")
    if not clip_high >= 0.0:
        raise UserError(f"clip_high must be at least 0, but it is {clip_high}.")
    if dual_clip is not None and not dual_clip > 1.0:
        raise UserError(f"dual_clip must be above 1, or left out, but it is {dual_clip}.")
    if max_ratio is not None and not max_ratio > 1.0 + clip_high:
        raise UserError(f"max_ratio must be above 1 + clip_high = {1.0 + clip_high}, or left out, not {max_ratio}.")
    weight = ratio(logprob, behavior_logprob)
    clipped = torch.clamp(weight, 1.0 - clip_low, 1.0 + clip_high)
    capped = weight if max_ratio is None else torch.clamp(weight, max=max_ratio)
    loss = -torch.minimum(capped * advantage, clipped * advantage)
    if dual_clip is None:
        return loss
    return torch.where(advantage < 0, torch.minimum(loss, -dual_clip * advantage), loss)
