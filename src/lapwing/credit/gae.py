"""Generalised advantage estimation over steps."""

import numpy as np

from lapwing.core.batch import EpisodeBatch, merged_reward
from lapwing.core.checked import checked
from lapwing.credit._discount import check_unit_interval
from lapwing.credit._gae import final_value, lambda_advantage

LEVEL = "step"
SCOPE = "group"
NEEDS = ("value",)


@checked(*NEEDS)
def gae(batch: EpisodeBatch, *, discount: float = 1.0, lambda_: float = 0.95) -> np.ndarray:
    """Give each step the exponentially weighted sum of the critic's TD errors from it to the end of its episode.

        A_t = δ_t + γλ A_{t+1},   δ_t = r_t + γ V(s_{t+1}) − V(s_t)

    After the last step V is 0 where the rules ended the episode, and `final_value` where a limit cut it; that column
    is asked for only if an episode was cut. The outcome counts as reward of the last step. λ = 0 gives the TD error,
    λ = 1 the return to go minus the value. This is turn-level GAE: one value per step, whatever the number of its
    tokens, so γ and λ count steps. Nothing is whitened here; that is the modulation `whiten`. The critic's target is
    A + V.

    Provenance: formula from the paper; the defaults are common practice.

    Reference: Schulman et al. 2015, "High-Dimensional Continuous Control Using Generalized Advantage Estimation".
      https://arxiv.org/abs/1506.02438; over the turns of an agent: Turn-PPO 2025. https://arxiv.org/abs/2512.17008

    Args:
      batch: N steps in E episodes, with `value` [N], and `final_value` [E] if an episode was cut.
      discount: γ, per step (not per token), in [0, 1].
      lambda_: λ, in [0, 1].

    Returns:
      Advantage of each step, float64 [N], in units of reward.

    Raises:
      MissingColumnError: there is no `value`, or an episode was cut and there is no `final_value`.
      UserError: `discount` or `lambda_` lies outside [0, 1].
    """
    check_unit_interval(discount=discount, lambda_=lambda_)
    value = batch.column("value").astype(np.float64)
    after = final_value(batch, "gae")
    return lambda_advantage(merged_reward(batch), value, after, batch.step_splits, discount=discount, lambda_=lambda_)
