"""Train on every episode."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.types import Selection

SCOPE = "group"
NEEDS = ()


def all_episodes(batch: EpisodeBatch, advantage: np.ndarray, rng: np.random.Generator) -> Selection:
    """Select every episode once.

        count_e = 1,   factor_e = 1

    Episodes without any advantage are selected too: they count in the denominator of an aggregation.

    Provenance: Lapwing's own; the constants are its choice.

    Reference: Shao et al. 2024, "DeepSeekMath" (GRPO trains on every sampled reply). https://arxiv.org/abs/2402.03300

    Args:
      batch: E episodes.
      advantage: not used; every selection has the same signature.
      rng: not used.

    Returns:
      Selection: `count` int64 [E] and `factor` float64 [E], without unit, all ones.
    """
    del advantage, rng
    return Selection(np.ones(batch.num_episodes, dtype=np.int64), np.ones(batch.num_episodes))
