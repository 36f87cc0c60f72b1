"""Group-relative advantage scaled by the spread of the whole batch."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.ragged import group_std
from lapwing.credit._centred import centred_return
from lapwing.credit._settings import check_choice, check_normalisation

LEVEL = "step"
SCOPE = "batch"
NEEDS = ()


@checked(*NEEDS)
def lite_ppo(batch: EpisodeBatch, *, std_of: str = "return", ddof: int = 1, eps: float = 1e-6) -> np.ndarray:
    """Give every step of an episode its return minus the group's mean, over the batch's standard deviation.

        A_i = (R_i − mean_g R) / (std_batch R + ε)

    The scale is common to all groups, so a group that is nearly solved or nearly lost is not blown up to the weight
    of the others. Both statistics run over episodes, never over steps. A group of one, or with equal returns, gives
    exactly 0; so does a batch without spread. Where one batch mixes tasks of different reward scale, the largest
    scale sets the step of all. The method's other half is the aggregation `token_mean`.

    Where public implementations disagree: the standard deviation of the paper, and of TRL, is that of the returns
    (`std_of = "return"`); ROLL takes that of the returns minus their group means (`std_of = "centred"`), which
    leaves out how much the groups differ.

    Provenance: formula and defaults from the authors' code.

    Reference: Liu et al. 2025, "Part I: Tricks or Traps? A Deep Dive into RL for LLM Reasoning" (Lite PPO).
      https://arxiv.org/abs/2508.08221

    Args:
      batch: N steps in E episodes.
      std_of: "return" or "centred", what the standard deviation over the batch is taken of.
      ddof: delta degrees of freedom of the standard deviation, an integer ≥ 0; 1 = sample, 0 = population.
      eps: ε, added to the standard deviation, ≥ 0, in units of reward.

    Returns:
      Advantage of each step, float64 [N], in standard deviations of the batch.

    Raises:
      UserError: `std_of` is unknown, or `ddof` or `eps` is negative.
    """
    check_choice("std_of", std_of, ("return", "centred"))
    check_normalisation(ddof, eps)
    centred = centred_return(batch)
    spread = batch.episode_return if std_of == "return" else centred
    std = group_std(spread, np.zeros(batch.num_episodes, dtype=np.int64), ddof=ddof)
    advantage = np.divide(centred, std + eps, out=np.zeros_like(centred), where=std > 0)
    return advantage[batch.episode_of_step]
