"""Supervised learning from both results: likelihood of successes, and of failures through an implicit bad policy."""

import torch

from lapwing.core.errors import UserError
from lapwing.losses._rates import group_rates
from lapwing.losses._ratios import ratio
from lapwing.losses._spans import check_name

MERGEABLE = True
NEEDS = ("success",)

_WEIGHTS = ("dr_grpo", "grpo", "none")


def nft(
    *,
    logprob: torch.Tensor,
    behavior_logprob: torch.Tensor,
    success: torch.Tensor,
    group_of_episode: torch.Tensor,
    episode_of_token: torch.Tensor,
    neg_weight: float = 1.0,
    prompt_weight: str = "dr_grpo",
    floor: float = 1.0,
    rate_margin: float = 0.02,
) -> torch.Tensor:
    """Make successes likelier, and make the policy that is left when successes are taken away explain the failures.

        ℓ = −ω log ρ                                   of the tokens of a success
        ℓ = −ω η log max( (1 − c ρ) / (1 − c), v )     of the tokens of a failure
        ρ = exp(logprob − behavior_logprob),   c = clip(the group's success rate, m, 1 − m)
        ω = 1 − c ("dr_grpo"),  sqrt((1 − c) / c) ("grpo"),  1 ("none")

    The maximum is straight-through: the gradient is that of −log x at x = max(…, v), passed on to ρ as if nothing had
    been cut off, so that a failure is pushed down by c ρ / (1 − c) / x for any ρ. No advantage is needed. Groups
    without both results, and episodes whose result is unknown, have loss 0. At the weights that played the gradient
    with "grpo" is that of GRPO with the population's deviation, and with "dr_grpo" that of Dr. GRPO. η = 0 trains on
    successes alone. The authors divide the sum over tokens by a constant: the aggregation `constant`. ρ is that of
    the token; the form with one ratio for a sequence is not here.

    Provenance: formula and defaults from the authors' code.

    Reference: Chen et al. 2025, "Bridging Supervised Learning and Reinforcement Learning in Math Reasoning" (NFT).
      https://arxiv.org/abs/2505.18116

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats.
      behavior_logprob: the same under the weights that played, [K], nats, no gradient.
      success: of each episode of the batch, above ½ for a success, NaN where unknown, [E].
      group_of_episode: number of each episode's group, int64 [E].
      episode_of_token: number of each token's episode, int64 [K].
      neg_weight: η, weight of failures, at least 0.
      prompt_weight: "dr_grpo", "grpo" or "none": how much a group counts, by its success rate.
      floor: v, positive.
      rate_margin: m, in (0, ½).

    Returns:
      Loss of each token, to be minimised, [K], nats.

    Raises:
      UserError: there is no such weight, or a setting lies outside its range.
    """
    check_name("prompt_weight", prompt_weight, _WEIGHTS)
    if not neg_weight >= 0.0:
        raise UserError(f"neg_weight must be at least 0, but it is {neg_weight}.")
    if not floor > 0.0:
        raise UserError(f"floor must be positive, but it is {floor}.")
    if not 0.0 < rate_margin < 0.5:
        raise UserError(f"rate_margin must be between 0 and 0.5, but it is {rate_margin}.")
    rates = group_rates(success, group_of_episode, logprob.dtype)
    c = rates.rate.clamp(rate_margin, 1.0 - rate_margin)[episode_of_token]
    quotient = (1.0 - c * ratio(logprob, behavior_logprob)) / (1.0 - c)
    held = quotient.detach().clamp(min=floor)
    # Forward −log(held). Adding the cut-off part back onto the quotient would lose it where ρ is large.
    failure = -torch.log(held) - (quotient - quotient.detach()) / held
    loss = torch.where(rates.success[episode_of_token], behavior_logprob - logprob, neg_weight * failure)
    if prompt_weight != "none":
        loss = loss * (1.0 - c if prompt_weight == "dr_grpo" else torch.sqrt((1.0 - c) / c))
    return torch.where((rates.mixed & rates.known)[episode_of_token], loss, 0.0)
