"""Train on the episodes that the rules ended, and compare them with all."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.types import Selection

SCOPE = "group"
NEEDS = ()


def untruncated(batch: EpisodeBatch, advantage: np.ndarray, rng: np.random.Generator) -> Selection:
    """Select every episode that no limit cut, once.

        count_e = [terminated_e or not truncated_e],   factor_e = 1

    Cut episodes have counted in the group's statistics by then, but none of their tokens is trained on: overlong
    filtering as in DAPO. The filter `truncated` leaves them out of the statistics too.

    Provenance: formula and defaults from the authors' code.

    Reference: Yu et al. 2025, "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", section 3.4 (overlong
      filtering). https://arxiv.org/abs/2503.14476

    Args:
      batch: E episodes.
      advantage: not used; every selection has the same signature.
      rng: not used.

    Returns:
      Selection: `count` int64 [E] of zeros and ones and `factor` float64 [E] of ones, without unit.
    """
    del advantage, rng
    return Selection((batch.terminated | ~batch.truncated).astype(np.int64), np.ones(batch.num_episodes))
