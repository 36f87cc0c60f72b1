"""Importance weights between sampler and trainer, 0 where the two disagree too much."""

import torch

from lapwing.core.errors import UserError
from lapwing.corrections._mismatch import mismatch

MERGEABLE = False
NEEDS = ()


def masked_importance(
    *,
    behavior_logprob: torch.Tensor,
    sampler_logprob: torch.Tensor,
    step_of_token: torch.Tensor,
    episode_of_token: torch.Tensor,
    level: str = "token",
    cap: float = 2.0,
    floor: float = 0.5,
) -> torch.Tensor:
    """Weigh each token by how much likelier the trainer finds it than the sampler did, and drop it if by too much.

        factor = w if c_low ≤ w ≤ c else 0,   w = exp( Σ (behavior_logprob − sampler_logprob) )

    The sum runs over the token alone, its step or its episode. Unlike `truncated_importance` it trusts neither side
    where they disagree. A dropped token still counts in the aggregation's denominator; if all are dropped, the loss
    is 0.

    Provenance: formula and defaults from public code (TRL).

    Reference: TRL, "GRPO Trainer", on the correction for the mismatch of training and inference.
      https://huggingface.co/docs/trl/grpo_trainer

    Args:
      behavior_logprob: log-probability of each token under the weights that played, as the trainer computes it, [K],
        nats.
      sampler_logprob: the same as the sampler said, [K], nats.
      step_of_token: number of each token's step, int64 [K].
      episode_of_token: number of each token's episode, int64 [K].
      level: "token", "step" or "episode": what has one weight.
      cap: c, largest weight that is kept, positive.
      floor: c_low, smallest weight that is kept, in [0, cap].

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
    return weight.masked_fill((weight < floor) | (weight > cap), 0.0)
