"""TD errors between values that were measured by playing on from the states."""

import numpy as np

from lapwing.core.batch import EpisodeBatch, merged_reward
from lapwing.core.checked import checked
from lapwing.credit._discount import check_discount

LEVEL = "step"
SCOPE = "group"
NEEDS = ("branch_value", "next_branch_value")


@checked(*NEEDS)
def vine(batch: EpisodeBatch, *, discount: float = 1.0) -> np.ndarray:
    """Give each step its reward plus what the state after it is worth, minus what the state before it is worth.

        A_t = r_t + γ V(s_{t+1}) − V(s_t),   V(s) = mean return of the branches played from s,   V(end) = 0

    The branches are independent of the episode, so this is unbiased for the policy that played them, at the price of
    playing them; their returns must have been discounted by the same γ. The outcome counts as reward of the last
    step. The end of an episode is worth 0, whether it terminated or was truncated, and whatever its
    `next_branch_value` says.

    Provenance: formula from the paper's text; code not seen.

    Reference: Kazemnejad et al. 2024, "VinePPO: Refining Credit Assignment in RL Training of LLMs", section 4.
      https://arxiv.org/abs/2410.01679

    Args:
      batch: N steps in E episodes, with `branch_value` and `next_branch_value` [N], values of the view that the step
        saw and of the one that it led to.
      discount: γ, per step (not per token), in [0, 1].

    Returns:
      Advantage of each step, float64 [N], in units of reward.

    Raises:
      MissingColumnError: there is no `branch_value` or no `next_branch_value`.
      UserError: `discount` lies outside [0, 1].
    """
    check_discount(discount)
    next_value = batch.column("next_branch_value").astype(np.float64)
    next_value[batch.step_splits[1:] - 1] = 0.0
    return merged_reward(batch) + discount * next_value - batch.column("branch_value")
