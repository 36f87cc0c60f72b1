"""Train on the episodes with the largest advantages, without chance."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.types import Selection
from lapwing.selection._magnitude import episode_magnitude
from lapwing.selection._share import number_to_keep

SCOPE = "batch"
NEEDS = ()


def top_k(batch: EpisodeBatch, advantage: np.ndarray, rng: np.random.Generator, *, keep: float = 0.5) -> Selection:
    """Select the share of the episodes with the largest |A|.

        |A_e| = mean over the steps of e of |advantage|
        count_e = 1 for the n = max(1, round(keep · E)) largest |A_e| > 0,   factor_e = 1

    Episodes with |A| = 0 are never selected, even if that leaves fewer than n or none. Of equal |A| the earlier
    episode goes first. Halves round up.

    Provenance: Lapwing's own; the constants are its choice.

    Reference: Xu et al. 2025, "Not All Rollouts are Useful: Down-Sampling Rollouts in LLM Reinforcement Learning"
      (rule-based down-sampling). https://arxiv.org/abs/2504.13818

    Args:
      batch: E episodes with N steps and K tokens.
      advantage: per step [N] or per token [K], any unit.
      rng: not used.
      keep: share of the batch's episodes, in (0, 1]; at least one is kept.

    Returns:
      Selection: `count` int64 [E] of zeros and ones and `factor` float64 [E] of ones, without unit.

    Raises:
      UserError: `keep` lies outside (0, 1].
      LapwingError: `advantage` has neither N nor K elements.
    """
    del rng
    size = episode_magnitude(batch, advantage)
    largest = np.argsort(-size, kind="stable")[: number_to_keep(keep, len(size))]
    count = np.zeros(len(size), dtype=np.int64)
    count[largest] = size[largest] > 0
    return Selection(count, np.ones(len(size)))
