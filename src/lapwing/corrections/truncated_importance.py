"""Importance weights between sampler and trainer, cut off at a largest value."""

import torch

from lapwing.core.errors import UserError
from lapwing.corrections._mismatch import mismatch

MERGEABLE = False
NEEDS = ()


def truncated_importance(
    *,
    behavior_logprob: torch.Tensor,
    sampler_logprob: torch.Tensor,
    step_of_token: torch.Tensor,
    episode_of_token: torch.Tensor,
    level: str = "token",
    cap: float = 2.0,
    floor: float = 0.0,
) -> torch.Tensor:
    """Weigh each token by how much likelier the trainer finds it than the sampler did, up to a cap.

        factor = clip(w, c_low, c),   w = exp( Σ (behavior_logprob − sampler_logprob) )

    The sum runs over the token alone, its step or its episode. The sampler and the trainer compute the same weights
    by different kernels or in different precision, so that they disagree about probabilities. Cutting the weight off
    buys a bounded variance with a little bias. Sums over long episodes nearly always reach the cap. Where sampler and
    trainer are one program the factor is 1. Of episodes that older weights played, the ratio of the loss may already
    be cut off (`policy/truncated_share`): the factor then takes back up to the cap of what was cut.

    Provenance: formula and defaults from public code (TRL).

    Reference: Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training".
      https://fengyao.notion.site/off-policy-rl; truncation: Ionides 2008, "Truncated Importance Sampling".
      https://doi.org/10.1198/106186008X320456

    Args:
      behavior_logprob: log-probability of each token under the weights that played, as the trainer computes it, [K],
        nats.
      sampler_logprob: the same as the sampler said, [K], nats.
      step_of_token: number of each token's step, int64 [K].
      episode_of_token: number of each token's episode, int64 [K].
      level: "token", "step" or "episode": what has one weight.
      cap: c, largest factor, positive.
      floor: c_low, smallest factor, in [0, cap].

    Returns:
      Factor of each token's loss, at least 0, without gradient, [K], without unit.

    Raises:
      UserError: there is no such level, `cap` is not positive, or `floor` lies outside [0, cap].
    """
    if not cap > 0.0:
        raise UserError(f"cap must be positive, but it is {cap}.")
    if not 0.0 <= floor <= cap:
        raise UserError(f"floor must be in [0, cap = {cap}], but it is {floor}.")
    weight = mismatch(behavior_logprob, sampler_logprob, step_of_token, episode_of_token, level)
    return torch.clamp(weight, min=floor, max=cap)
