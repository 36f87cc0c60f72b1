"""The clipped surrogate with one ratio for a whole reply or episode."""

import torch

from lapwing.losses._spans import check_name, mean, spans
from lapwing.losses.clipped_surrogate import clipped_surrogate

MERGEABLE = False
NEEDS = ()

_SPANS = ("step", "episode")


def gspo(
    *,
    logprob: torch.Tensor,
    behavior_logprob: torch.Tensor,
    advantage: torch.Tensor,
    step_of_token: torch.Tensor,
    episode_of_token: torch.Tensor,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
    span: str = "step",
) -> torch.Tensor:
    """Clip the geometric mean of the ratios of all tokens of a step, or of an episode.

        s = exp( mean over the span's tokens of (logprob − behavior_logprob) )
        ℓ = −min(s A, clip(s, 1 − ε_low, 1 + ε_high) A),   A = mean over the span's tokens of the advantage

    Every token of a span gets the span's loss ℓ. The paper's mean over sequences is the aggregation `step_mean` for
    span = "step", and `episode_mean` for "episode"; under `token_mean` long spans weigh more. At the weights that
    played the gradient is that of `policy_gradient` under the same aggregation. A span is kept or clipped as a whole,
    so the bounds are narrow. Advantages that differ inside a span are averaged; `gspo_token` keeps them apart.

    Provenance: formula and defaults from public code (TRL); the span of several steps is Lapwing's choice.

    Reference: Zheng et al. 2025, "Group Sequence Policy Optimization", eq. 5 and 7. https://arxiv.org/abs/2507.18071

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats.
      behavior_logprob: the same under the weights that played, [K], nats, no gradient.
      advantage: of each token, [K], no gradient.
      step_of_token: number of each token's step, int64 [K].
      episode_of_token: number of each token's episode, int64 [K].
      clip_low: ε_low, in [0, 1].
      clip_high: ε_high, ≥ 0.
      span: "step" or "episode": what has one ratio.

    Returns:
      Loss of each token, to be minimised, [K], in units of the advantage.

    Raises:
      UserError: there is no such span, `clip_low` lies outside [0, 1], or `clip_high` is negative.
    """
    check_name("span", span, _SPANS)
    of = spans(step_of_token if span == "step" else episode_of_token)
    per_span = clipped_surrogate(
        logprob=mean(logprob - behavior_logprob, of),
        behavior_logprob=torch.zeros(len(of.count), dtype=logprob.dtype, device=logprob.device),
        advantage=mean(advantage, of),
        clip_low=clip_low,
        clip_high=clip_high,
    )
    return per_span[of.index]
