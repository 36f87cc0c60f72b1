"""The return to go relative to the members of the group that are still playing."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.ragged import group_index, group_mean, has_spread
from lapwing.credit.return_to_go import return_to_go

LEVEL = "step"
SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def group_return_to_go(batch: EpisodeBatch, *, discount: float = 1.0) -> np.ndarray:
    """Give each step its return to go minus the mean of its group's episodes that are alive at that step index.

        A_{i,t} = G_{i,t} − mean { G_{j,t} : j in the group of i, t < T_j }

    An episode has at most one step at an index, so the mean runs over episodes. A step index that a single member
    reaches, or where all members alive have the same return to go, gives exactly 0. As in GRPO, the mean contains
    the member's own number, which shrinks the advantage by (m − 1)/m for m members alive and does not bias its
    direction.

    Provenance: Lapwing's own; the constants are its choice.

    Reference: Dilkes, Yazdanpanah and Stein 2025, "Reinforced Language Models for Sequential Decision Making" (the
      group-relative episode return whose reward-to-go form this is). https://arxiv.org/abs/2508.10839; Greensmith,
      Bartlett and Baxter 2004, "Variance Reduction Techniques for Gradient Estimates in Reinforcement Learning"
      (baselines). https://www.jmlr.org/papers/v5/greensmith04a.html

    Args:
      batch: N steps in E episodes.
      discount: γ, per step (not per token), in [0, 1].

    Returns:
      Advantage of each step, float64 [N], in units of reward.

    Raises:
      UserError: `discount` lies outside [0, 1].
    """
    to_go = return_to_go(batch, discount=discount)
    step_index = np.arange(batch.num_steps) - batch.step_splits[batch.episode_of_step]
    group, _ = group_index(batch.group)
    alive = group[batch.episode_of_step] * (step_index.max(initial=0) + 1) + step_index  # one number per (group, t)
    return np.where(has_spread(to_go, alive), to_go - group_mean(to_go, alive), 0.0)
