"""Leave out groups in which every episode went equally well."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.ragged import has_spread

SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def zero_spread(batch: EpisodeBatch) -> np.ndarray:
    """Keep the episodes of groups whose episode returns differ.

        keep_i = max_g R > min_g R

    A group of one has no spread and is left out. Differences below 1e-10 (relative above
    1) are rounding and no spread. Such groups have advantage 0 under every
    group-relative method, but would count in the denominator of an aggregation and pay regularisers.

    Provenance: formula and defaults from the authors' code.

    Reference: Yu et al. 2025, "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", section 3.2 (the
      filter of dynamic sampling). https://arxiv.org/abs/2503.14476

    Args:
      batch: E episodes.

    Returns:
      `keep`, bool [E], without unit; True = counts.
    """
    return has_spread(batch.episode_return, batch.group)
