"""The ratio of a whole reply or episode, with the gradient and the advantage of each token."""

import torch

from lapwing.losses._spans import check_name, mean, spans
from lapwing.losses.clipped_surrogate import clipped_surrogate

MERGEABLE = False
NEEDS = ()

_SPANS = ("step", "episode")


def gspo_token(
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
    """Clip by the ratio of a step, or of an episode, but let every token have its own advantage and gradient.

        s_t = sg(s) · exp(logprob_t − sg(logprob_t)),   s = exp( mean over the span of (logprob − behavior_logprob) )
        ℓ_t = −min(s_t A_t, clip(s_t, 1 − ε_low, 1 + ε_high) A_t)

    sg stops the gradient. The value of s_t is that of s; its gradient is s ∇logprob_t. Where all tokens of a span
    have one advantage this is `gspo`, in value and in gradient, under `step_mean` (span = "step") or `episode_mean`
    ("episode"). With span = "episode" steps may have advantages of their own.

    Provenance: formula and defaults from public code (TRL); the span of several steps is Lapwing's choice.

    Reference: Zheng et al. 2025, "Group Sequence Policy Optimization", eq. 13 and 14.
      https://arxiv.org/abs/2507.18071

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
    held = logprob.detach()
    # The ratio of a token to this is s_t.
    denominator = held - mean(held - behavior_logprob, of)[of.index]
    return clipped_surrogate(
        logprob=logprob, behavior_logprob=denominator, advantage=advantage, clip_low=clip_low, clip_high=clip_high
    )
