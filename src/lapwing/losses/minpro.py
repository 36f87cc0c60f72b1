"""Off-policy weights that look at the tokens before: the token's ratio times the smallest earlier one."""

import math

import torch

from lapwing.core.errors import UserError
from lapwing.losses._ratios import LARGEST
from lapwing.losses._spans import Spans, check_name, spans
from lapwing.losses.cispo import cispo
from lapwing.losses.clipped_surrogate import clipped_surrogate

MERGEABLE = False
NEEDS = ()

_HOSTS = ("cispo", "clipped")
_SCOPES = ("episode", "step")


def minpro(
    *,
    logprob: torch.Tensor,
    behavior_logprob: torch.Tensor,
    advantage: torch.Tensor,
    step_of_token: torch.Tensor,
    episode_of_token: torch.Tensor,
    host: str = "cispo",
    scope: str = "episode",
    cap: float = 5.0,
    clip_low: float = 1.0,
    clip_high: float = 0.28,
    floor: float = 0.0,
    cap_min_at_one: bool = False,
) -> torch.Tensor:
    """Multiply each token's ratio by the smallest ratio of the tokens before it.

        ρ̃_t = sg(m_t) ρ_t,   m_t = min of ρ_i over the earlier tokens i of the scope, 1 for the first token
        ℓ_t = −sg(min(ρ̃_t, cap)) A logprob_t                               host "cispo"
        ℓ_t = −min(ρ̃_t A, clip(ρ̃_t, 1 − ε_low, 1 + ε_high) A)              host "clipped"

    The exact weight of a token in an off-policy prefix is the product of all ratios up to it, whose variance grows
    exponentially; this stands in for the product. sg stops the gradient, else one early token would collect the
    gradient of all later ones. Where all earlier ratios are 1 it is the host itself. The minimum falls along an
    episode and never rises again: with thousands of tokens take scope = "step" or a floor. Tokens must come in the
    order of the batch.

    Provenance: formula from a paper note; code not seen. The bounds of both hosts are Lapwing's choice.

    Reference: 2026, "A Step Back: Prefix Importance Ratio" (MinPRO). https://arxiv.org/abs/2601.22718

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats.
      behavior_logprob: the same under the weights that played, [K], nats, no gradient.
      advantage: of each token, [K], no gradient.
      step_of_token: number of each token's step, int64 [K].
      episode_of_token: number of each token's episode, int64 [K].
      host: "cispo" or "clipped": the loss that takes the weight as its ratio.
      scope: "episode" or "step": where the earlier tokens begin.
      cap: largest weight of the host "cispo", positive.
      clip_low: ε_low of the host "clipped", in [0, 1]; 1 is no lower bound.
      clip_high: ε_high of the host "clipped", ≥ 0.
      floor: m_t is at least this, in [0, 1].
      cap_min_at_one: m_t is at most 1, so that it can only weaken a token.

    Returns:
      Loss of each token, to be minimised, [K], in units of the advantage (times nats for the host "cispo").

    Raises:
      UserError: there is no such host or scope, or a bound lies outside its range.
    """
    check_name("host", host, _HOSTS)
    check_name("scope", scope, _SCOPES)
    if not 0.0 <= floor <= 1.0:
        raise UserError(f"floor must be in [0, 1], but it is {floor}.")
    of = spans(step_of_token if scope == "step" else episode_of_token)
    earlier = _smallest_earlier((logprob.detach() - behavior_logprob).clamp(-LARGEST, LARGEST), of)
    if floor > 0.0:
        earlier = earlier.clamp(min=math.log(floor))
    if cap_min_at_one:
        earlier = earlier.clamp(max=0.0)
    # The ratio of a token to this is ρ̃.
    denominator = behavior_logprob - earlier
    if host == "cispo":
        return cispo(logprob=logprob, behavior_logprob=denominator, advantage=advantage, cap=cap)
    return clipped_surrogate(
        logprob=logprob,
        behavior_logprob=denominator,
        advantage=advantage,
        clip_low=clip_low,
        clip_high=clip_high,
    )


def _smallest_earlier(values: torch.Tensor, of: Spans) -> torch.Tensor:
    """The smallest value of the tokens before each one in its span, 0 for the first, [K]."""
    if len(values) == 0:
        return values
    index, smallest, reach = of.index, values, 1
    # After each round a token knows the smallest of twice as many, itself the last of them.
    while reach < int(of.count.max()):
        together = index[reach:] == index[:-reach]
        best = torch.minimum(smallest[reach:], smallest[:-reach])
        smallest = torch.cat([smallest[:reach], torch.where(together, best, smallest[reach:])])
        reach *= 2
    first = torch.ones_like(index, dtype=torch.bool)
    first[1:] = index[1:] != index[:-1]
    return smallest.roll(1).masked_fill(first, 0.0)
