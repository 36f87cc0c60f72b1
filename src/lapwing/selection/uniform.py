"""Train on a share of the episodes, drawn uniformly: the control of every cleverer selection."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.types import Selection
from lapwing.selection._share import number_to_keep

SCOPE = "batch"
NEEDS = ()


def uniform(batch: EpisodeBatch, advantage: np.ndarray, rng: np.random.Generator, *, keep: float = 0.5) -> Selection:
    """Draw a share of the episodes without replacement, all with the same probability.

        n = max(1, round(keep · E)),   P(count_e = 1) = n / E,   factor_e = 1

    The advantage plays no part, so that episodes with advantage 0 are drawn like the others. Halves round up.

    Provenance: Lapwing's own; the constants are its choice.

    Reference: Xu et al. 2025, "Not All Rollouts are Useful: Down-Sampling Rollouts in LLM Reinforcement Learning"
      (random down-sampling). https://arxiv.org/abs/2504.13818

    Args:
      batch: E episodes.
      advantage: not used; every selection has the same signature.
      rng: the source of the draw.
      keep: share of the batch's episodes, in (0, 1]; at least one is kept.

    Returns:
      Selection: `count` int64 [E] of zeros and ones and `factor` float64 [E] of ones, without unit.

    Raises:
      UserError: `keep` lies outside (0, 1].
    """
    del advantage
    episodes = batch.num_episodes
    count = np.zeros(episodes, dtype=np.int64)
    count[rng.permutation(episodes)[: number_to_keep(keep, episodes)]] = 1
    return Selection(count, np.ones(episodes))
