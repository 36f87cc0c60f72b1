"""How much likelier the trainer finds a token, or a span of them, than the sampler did."""

import torch

from lapwing.losses._ratios import ratio
from lapwing.losses._spans import check_name, spans, total

_LEVELS = ("token", "step", "episode")


def mismatch(
    behavior_logprob: torch.Tensor,
    sampler_logprob: torch.Tensor,
    step_of_token: torch.Tensor,
    episode_of_token: torch.Tensor,
    level: str,
) -> torch.Tensor:
    """Probability under the trainer's weights that played over that under the sampler, of what holds each token.

        w = exp( Σ over the token, its step or its episode of (behavior_logprob − sampler_logprob) )

    Returns:
      Without gradient, [K].

    Raises:
      UserError: there is no such level.
    """
    check_name("level", level, _LEVELS)
    trainer, sampler = behavior_logprob.detach(), sampler_logprob.detach()
    if level == "token":
        return ratio(trainer, sampler)
    of = spans(step_of_token if level == "step" else episode_of_token)
    gap = total(trainer - sampler, of)
    return ratio(gap, torch.zeros_like(gap))[of.index]
