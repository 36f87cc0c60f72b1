"""A pull towards the reference policy that is weaker for the rare successes of a hard start."""

import math

import torch

from lapwing.core.errors import UserError
from lapwing.losses._rates import group_rates
from lapwing.losses.kl_k3 import kl_k3

MERGEABLE = True
NEEDS = ("reference_logprob", "success")


def apo_asymmetric(
    *,
    logprob: torch.Tensor,
    reference_logprob: torch.Tensor,
    advantage: torch.Tensor,
    success: torch.Tensor,
    group_of_episode: torch.Tensor,
    episode_of_token: torch.Tensor,
    steepness: float = math.e,
) -> torch.Tensor:
    """Weigh k3 of tokens with a positive advantage by how easy their group is (DADS).

        ℓ = w · k3,   w = 1 − exp(−s · a)   where A > 0 and 0 < a < 1, else 1

    a is the success rate of the group, 1 − a its difficulty. The harder the start, the less its successes are held
    back; a group that always or never succeeds, and all that is not to be made likelier, is held as usual. A
    regulariser: its coefficient is the paper's β (1e-3), and its mean over sequences is the aggregation
    `episode_mean`. With coefficient 0 nothing is left of the method.

    Provenance: formula and defaults from the authors' code.

    Reference: 2025, "APO: Asymmetric Policy Optimization" (View-R1). https://github.com/Indolent-Kawhi/View-R1

    Args:
      logprob: log-probability of each token under the weights being trained, [K], nats.
      reference_logprob: the same under the reference weights, [K], nats, no gradient.
      advantage: of each token; only its sign counts, [K].
      success: of each episode of the batch, above ½ for a success, NaN where unknown, [E].
      group_of_episode: number of each episode's group, int64 [E].
      episode_of_token: number of each token's episode, int64 [K].
      steepness: s, positive.

    Returns:
      Estimate at each token, to be minimised, [K], nats.

    Raises:
      UserError: `steepness` is not positive.
    """
    if not steepness > 0.0:
        raise UserError(f"steepness must be positive, but it is {steepness}.")
    rates = group_rates(success, group_of_episode, logprob.dtype)
    easy = torch.where(rates.mixed, -torch.expm1(-steepness * rates.rate), 1.0)[episode_of_token]
    return torch.where(advantage > 0, easy, 1.0) * kl_k3(logprob=logprob, reference_logprob=reference_logprob)
