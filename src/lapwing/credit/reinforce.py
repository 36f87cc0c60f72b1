"""The episode return on every step, without a baseline."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked

LEVEL = "step"
SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def reinforce(batch: EpisodeBatch) -> np.ndarray:
    """Give every step the return of its whole episode.

        A_t = R,   R = Σ_t r_t + outcome

    There is no baseline and no discount: a constant added to all returns changes the update.

    Provenance: formula and defaults from the authors' code.

    Reference: Williams 1992, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement
      Learning", section 5 (episodic REINFORCE). https://doi.org/10.1007/BF00992696

    Args:
      batch: N steps in E episodes.

    Returns:
      Episode return at each step, float64 [N], in units of reward.
    """
    return batch.episode_return[batch.episode_of_step]
