"""TD(λ) whose values are means over the steps of the group that share the view."""

import numpy as np

from lapwing.core.batch import EpisodeBatch, merged_reward
from lapwing.core.checked import checked
from lapwing.core.ragged import reverse_discounted_sum
from lapwing.credit._anchors import anchor_index, anchor_mean
from lapwing.credit._discount import check_unit_interval

LEVEL = "step"
SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def state_td(batch: EpisodeBatch, *, discount: float = 1.0, lambda_: float = 0.9) -> np.ndarray:
    """Sum a step's later TD errors, with the mean return to go of the group's steps in a state as its value.

        V(s) = mean { G_{j,u} : s_{j,u} = s, j in the group },   G_t = r_t + γ G_{t+1}
        δ_t  = r_t + γ V(s_{t+1}) − V(s_t)
        A_t  = δ_t + γλ A_{t+1}

    States are told by `view_key`, and every visit counts, also several in one episode. The outcome counts as reward
    of the last step. Past its end every episode is worth 0, whether it terminated or was truncated; there is no
    critic. λ = 1 gives G_t − V(s_t), the step part of GiGPO; λ = 0 credits a step only with the state it led to,
    which takes the luck of later steps out of it.

    A state that the group saw once, or with the same return to go every time, is worth what came of it, so an
    episode of such states has exactly 0 throughout. A `view_key` of 0 matches no other step. Views that hide the
    number of steps left, or any other part of the state, average over what they hide.

    Provenance: Lapwing's own; the constants are its choice.

    Reference: Sutton and Barto 2018, "Reinforcement Learning: An Introduction", sections 5.1 (every-visit means) and
      12.1 to 12.3 (λ). http://incompleteideas.net/book/the-book-2nd.html; Feng et al. 2025, "Group-in-Group Policy
      Optimization for LLM Agent Training" (the same-view groups). https://arxiv.org/abs/2505.10978

    Args:
      batch: N steps in E episodes, with `view_key`.
      discount: γ, per step (not per token), in [0, 1].
      lambda_: λ, in [0, 1]; 0 = TD errors, 1 = return to go minus value.

    Returns:
      Advantage of each step, float64 [N], in units of reward.

    Raises:
      UserError: `discount` or `lambda_` lies outside [0, 1].
    """
    check_unit_interval(discount=discount, lambda_=lambda_)
    to_go = reverse_discounted_sum(merged_reward(batch), discount, batch.step_splits)
    surprise = to_go - anchor_mean(to_go, anchor_index(batch))
    next_surprise = np.append(surprise[1:], 0.0)
    next_surprise[batch.step_splits[1:] - 1] = 0.0
    # δ_t with r_t = G_t − γ G_{t+1} put in: no rounding is left where no value differs from what came of the step.
    td_error = surprise - discount * next_surprise
    return reverse_discounted_sum(td_error, discount * lambda_, batch.step_splits)
