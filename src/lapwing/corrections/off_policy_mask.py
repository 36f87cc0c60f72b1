"""Drops bad episodes that the policy has already moved away from."""

import torch

from lapwing.core.errors import UserError
from lapwing.losses._spans import check_name, mean, spans

MERGEABLE = False
NEEDS = ()

_LEVELS = ("episode", "step")


def off_policy_mask(
    *,
    logprob: torch.Tensor,
    sampler_logprob: torch.Tensor,
    advantage: torch.Tensor,
    step_of_token: torch.Tensor,
    episode_of_token: torch.Tensor,
    max_drift: float = 0.5,
    level: str = "episode",
) -> torch.Tensor:
    """Drop the tokens with a negative advantage of an episode that became much less likely since it was played.

        factor = 0 if A < 0 and mean over the episode's tokens of (sampler_logprob − logprob) > δ else 1

    To push an episode down that the policy hardly makes any more teaches little and is noisy. The drift counts both
    the updates since and what sampler and trainer compute differently. Tokens with A ≥ 0 are kept, also in an episode
    whose steps have advantages of both signs: this is Lapwing's reading, in the paper an episode has one advantage. A
    dropped token still counts in the aggregation's denominator; if all are dropped, the loss is 0.

    Provenance: formula and defaults from public code (TRL).

    Reference: DeepSeek-AI 2025, "DeepSeek-V3.2". https://arxiv.org/abs/2512.02556

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats; its gradient is not used.
      sampler_logprob: the same as the sampler said when it played, [K], nats.
      advantage: of each token, [K].
      step_of_token: number of each token's step, int64 [K].
      episode_of_token: number of each token's episode, int64 [K].
      max_drift: δ, nats per token, at least 0.
      level: "episode" or "step": over what the drift is averaged.

    Returns:
      Factor of each token's loss, 0 or 1, without gradient, [K], without unit.

    Raises:
      UserError: there is no such level, or `max_drift` is negative.
    """
    check_name("level", level, _LEVELS)
    if not max_drift >= 0.0:
        raise UserError(f"max_drift must be at least 0, but it is {max_drift}.")
    of = spans(step_of_token if level == "step" else episode_of_token)
    drift = mean(sampler_logprob - logprob.detach(), of)[of.index]
    return torch.where((advantage < 0) & (drift > max_drift), 0.0, 1.0).to(logprob.dtype)
