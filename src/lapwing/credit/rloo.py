"""The episode return relative to the other members of the group."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.ragged import group_index
from lapwing.credit._centred import centred_return

LEVEL = "step"
SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def rloo(batch: EpisodeBatch) -> np.ndarray:
    """Give every step of an episode the episode's return minus the mean return of the others in its group.

        A_i = R_i − mean_{j≠i} R_j = G/(G − 1) · (R_i − mean_g R)

    The baseline does not contain the episode's own return, so the gradient is unbiased and not merely
    proportional. A group of one has no others and gives exactly 0; so does a group with equal returns.

    Provenance: formula and defaults from the authors' code.

    Reference: Kool, van Hoof and Welling 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!".
      https://openreview.net/forum?id=r1lgTGL5DE; Ahmadian et al. 2024, "Back to Basics: Revisiting REINFORCE Style
      Optimization for Learning from Human Feedback in LLMs". https://arxiv.org/abs/2402.14740

    Args:
      batch: N steps in E episodes.

    Returns:
      Advantage of each step, float64 [N], in units of reward.
    """
    index, size = group_index(batch.group)
    members = size[index]
    # A group of one is 0 already; the maximum only keeps its 1/0 out of the arithmetic.
    advantage = centred_return(batch) * members / np.maximum(members - 1, 1)
    return advantage[batch.episode_of_step]
