"""Regression of the log-ratio to the reference policy onto the advantage of a step."""

import torch

from lapwing.core.errors import UserError
from lapwing.losses._spans import mean, spans, total

MERGEABLE = False
NEEDS = ("reference_logprob",)


def direct_advantage(
    *,
    logprob: torch.Tensor,
    reference_logprob: torch.Tensor,
    advantage: torch.Tensor,
    step_of_token: torch.Tensor,
    beta: float = 0.1,
    max_target: float = 5.0,
) -> torch.Tensor:
    """Square the distance of each step's log-ratio from its scaled advantage.

        ℓ = ½ (clip(A / β, ±5) − d)²,   d = Σ over the step's tokens of (logprob − reference_logprob)

    A is the mean of the advantage over the step's tokens. Every token of a step gets the step's loss: the mean over
    steps is the aggregation `step_mean`. At the minimum π is π_ref · exp(A / β) of the actions seen, which sums to 1
    only if the mean of exp(A / β) under the reference policy is 1; no normalising constant is estimated. Meant for
    episodes of the reference policy. An advantage of 0 is no silence: it holds the step at the reference.

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Liu et al. 2024, "Improving Multi-Step Reasoning Abilities of Large Language Models with Direct
      Advantage Policy Optimization". https://arxiv.org/abs/2412.18279

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats.
      reference_logprob: the same under the reference weights, [K], nats, no gradient.
      advantage: of each token, [K], no gradient.
      step_of_token: number of each token's step, int64 [K].
      beta: β, positive, in units of the advantage per nat.
      max_target: bound of |A / β|, positive, nats.

    Returns:
      Loss of each token, to be minimised, [K], nats².

    Raises:
      UserError: `beta` or `max_target` is not positive.
    """
    for name, value in (("beta", beta), ("max_target", max_target)):
        if not value > 0.0:
            raise UserError(f"{name} must be positive, but it is {value}.")
    of = spans(step_of_token)
    target = torch.clamp(mean(advantage, of) / beta, -max_target, max_target)
    return (0.5 * (target - total(logprob - reference_logprob, of)) ** 2)[of.index]
