"""Group-relative advantage without the division by the standard deviation."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.credit._centred import centred_return

LEVEL = "step"
SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def dr_grpo(batch: EpisodeBatch) -> np.ndarray:
    """Give every step of an episode the episode's return minus the mean return of its group.

        A_i = R_i − mean_g R

    Without the division, groups with little spread are not blown up to the weight of the others. The mean runs
    over episodes; a group of one, or with equal returns, gives exactly 0. The method's other half is the
    aggregation `constant`.

    Provenance: formula and defaults from the authors' code.

    Reference: Liu et al. 2025, "Understanding R1-Zero-Like Training: A Critical Perspective" (Dr. GRPO).
      https://arxiv.org/abs/2503.20783

    Args:
      batch: N steps in E episodes.

    Returns:
      Advantage of each step, float64 [N], in units of reward.
    """
    return centred_return(batch)[batch.episode_of_step]
