"""A stronger push away from failures that took longer than the successes of their group."""

import math

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.ragged import group_index, segment_sum
from lapwing.modulation._levels import with_episodes

LEVEL = "any"
SCOPE = "group"
NEEDS = ("success",)

_UNITS = ("tokens", "steps")


@checked(*NEEDS)
def stcr(batch: EpisodeBatch, advantage: np.ndarray, *, unit: str = "tokens", base: float = 1.00001) -> np.ndarray:
    """Multiply the negative advantages of failures that are longer than the successes of their group.

        Δ_i = L_i − mean { L_j : j in the group succeeded }
        A′ = A (1 + (1 − b^{−Δ_i}))   if i failed, Δ_i > 0 and A < 0;   else A

    The factor lies in [1, 2). L is the number of reply tokens of an episode, or of its steps. A group without a
    success stays as it is, and so do successes. A failure's positive advantages stay too: credit that tells steps
    apart has some, and these are not what made it fail. A base so close to 1 hardly acts below 10,000 tokens (Δ = 100
    gives 1.001): episodes of games want a larger one, such as 1.1 with steps. It is one half of APO, whose
    other, DADS, weighs the divergence from the reference in the loss (`apo_asymmetric`).

    Provenance: formula and defaults from the authors' code.

    Reference: View-R1 2025 (asymmetric policy optimisation, suboptimal trajectory complexity regularisation).
      https://arxiv.org/abs/2506.21655; https://github.com/Indolent-Kawhi/View-R1

    Args:
      batch: E episodes with N steps and K tokens, with the column `success`.
      advantage: per step [N] or per token [K], any unit.
      unit: "tokens" or "steps", what a length is counted in.
      base: b > 1; the larger, the less excess length it takes.

    Returns:
      Advantage, float64 [N] or [K] as it came in, in the unit of `advantage`.

    Raises:
      UserError: `advantage` has neither N nor K numbers, `unit` is unknown, or `base` is not above 1.
    """
    if unit not in _UNITS:
        raise UserError(f"There is no unit '{unit}'; valid names: {', '.join(_UNITS)}.")
    if not 1.0 < base < math.inf:
        raise UserError(f"base must be finite and above 1, but it is {base}.")
    values, episode = with_episodes(batch, advantage, "stcr")
    factor = 1.0 - np.expm1(-math.log(base) * _excess(batch, unit))
    return np.where(values < 0, values * factor[episode], values)


def _excess(batch: EpisodeBatch, unit: str) -> np.ndarray:
    """Δ of each failure whose group has a success, at least 0; 0 for the others, float64 [E]."""
    length = batch.episode_length.astype(np.float64)
    if unit == "tokens":
        length = segment_sum(np.diff(batch.token_splits), batch.step_splits)
    index, size = group_index(batch.group)
    success = np.asarray(batch.column("success")) > 0.5
    successes = np.bincount(index[success], minlength=len(size))
    total = np.bincount(index[success], weights=length[success], minlength=len(size))
    mean = np.where(successes > 0, total / np.maximum(successes, 1), np.inf)
    return np.where(success, 0.0, np.maximum(length - mean[index], 0.0))
