"""Extended generalised advantage estimation: an episode that was cut bootstraps itself."""

import numpy as np

from lapwing.core.batch import EpisodeBatch, merged_reward
from lapwing.core.checked import checked
from lapwing.credit._discount import check_unit_interval
from lapwing.credit._gae import lambda_advantage, own_value

LEVEL = "step"
SCOPE = "group"
NEEDS = ("value",)


@checked(*NEEDS)
def egae(batch: EpisodeBatch, *, discount: float = 1.0, lambda_: float = 0.95) -> np.ndarray:
    """Give each step its GAE, where the state after a cut is taken to be worth what the last step's state was worth.

        A_t = δ_t + γλ A_{t+1},   δ_t = r_t + γ V(s_{t+1}) − V(s_t),   V(s_T) = V(s_{T−1}) after a cut, else 0

    It is for episodes that a limit cut and whose next state nobody scored: `final_value` is never asked for. With
    γ = 1 the last step of such an episode has its reward as TD error, so a last step without reward gets exactly 0.
    An episode that the rules ended has its ordinary GAE. The paper cuts the replies of one long generation and works
    on tokens; here, as for any agent with a limit on its steps, the same is done on steps. Of the paper, only the
    estimator is here: its windows of generation are a matter of the rollout, and their sizes and λ were not published
    where we could read them.

    Provenance: formula from a paper note; code not seen.

    Reference: Fan et al. 2025, "Truncated Proximal Policy Optimization" (T-PPO), extended GAE.
      https://arxiv.org/abs/2506.15050

    Args:
      batch: N steps in E episodes, with `value` [N].
      discount: γ, per step (not per token), in [0, 1].
      lambda_: λ, in [0, 1].

    Returns:
      Advantage of each step, float64 [N], in units of reward.

    Raises:
      MissingColumnError: there is no `value`.
      UserError: `discount` or `lambda_` lies outside [0, 1].
    """
    check_unit_interval(discount=discount, lambda_=lambda_)
    value = batch.column("value").astype(np.float64)
    after = own_value(batch, value[batch.step_splits[1:] - 1])
    return lambda_advantage(merged_reward(batch), value, after, batch.step_splits, discount=discount, lambda_=lambda_)
