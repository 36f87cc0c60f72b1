"""Advantages with mean 0 and standard deviation 1."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.ragged import group_mean, group_std
from lapwing.modulation._levels import with_episodes

LEVEL = "any"
SCOPE = "batch"
NEEDS = ()

_SCOPES = ("batch", "group")


@checked(*NEEDS)
def whiten(
    batch: EpisodeBatch, advantage: np.ndarray, *, over: str = "batch", ddof: int = 1, eps: float = 1e-6
) -> np.ndarray:
    """Centre and scale the advantages over the batch, or over each group.

        A′ = (A − mean A) / (std A + ε)

    Mean and standard deviation run over the numbers that come in: over steps for an advantage per step, over reply
    tokens for one per token. Where they do not differ, or there are at most `ddof` of them, the result is exactly 0.
    Whitening is the last modulation. Public implementations differ in `ddof` and `eps`: GEM has 1 and 1e-9, HiPER 0
    and 1e-8, verl 1 and 1e-8 inside the root.

    Provenance: Lapwing's own; the constants are its choice.

    Reference: Andrychowicz et al. 2021, "What Matters In On-Policy Reinforcement Learning? A Large-Scale Empirical
      Study" (advantage normalisation). https://arxiv.org/abs/2006.05990

    Args:
      batch: E episodes with N steps and K tokens.
      advantage: per step [N] or per token [K], any unit.
      over: "batch" or "group".
      ddof: delta degrees of freedom of the standard deviation, an integer ≥ 0; 1 = sample, 0 = population.
      eps: ε, added to the standard deviation, ≥ 0, in the unit of `advantage`.

    Returns:
      Advantage, float64 [N] or [K] as it came in, in standard deviations.

    Raises:
      UserError: `advantage` has neither N nor K numbers, `over` is unknown, or `ddof` or `eps` is negative.
    """
    if over not in _SCOPES:
        raise UserError(f"There is no scope '{over}' to whiten over; valid names: {', '.join(_SCOPES)}.")
    if ddof < 0:
        raise UserError(f"ddof must be at least 0, but it is {ddof}.")
    if not eps >= 0.0:
        raise UserError(f"eps must be at least 0, but it is {eps}.")
    values, episode = with_episodes(batch, advantage, "whiten")
    scope = batch.group[episode] if over == "group" else np.zeros(len(values), dtype=np.int64)
    std = group_std(values, scope, ddof=ddof)
    centred = values - group_mean(values, scope)
    return np.divide(centred, std + eps, out=np.zeros_like(centred), where=std > 0)
