"""Mean return of the action in a state minus mean return of the state, over the rollouts of the group."""

import numpy as np

from lapwing.core.batch import EpisodeBatch, merged_reward
from lapwing.core.checked import checked
from lapwing.core.ragged import group_mean, has_spread, match_index, reverse_discounted_sum
from lapwing.credit._anchors import anchor_index

LEVEL = "step"
SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def rtmc(batch: EpisodeBatch) -> np.ndarray:
    """Give each step the mean return to go of its action in its state minus the mean return to go of the state.

        Q(s, a) = mean { G_{j,u} : s_{j,u} = s, a_{j,u} = a },   V(s) = mean { G_{j,u} : s_{j,u} = s }
        A_t = Q(s_t, a_t) − V(s_t),   j in the group, G_t = r_t + G_{t+1}

    States are told by `view_key`, actions by `action_key`, and every visit counts, also several in one episode. All
    steps that took one action in one state share their luck. The outcome counts as reward of the last step; an
    episode is worth 0 past its end. Returns are not discounted. A state that the group saw once, or in which it
    always took one action or always got the same return, gives exactly 0. A `view_key` of 0 matches no other step;
    an `action_key` of 0, as invalid replies have, leaves the step its own return to go as Q.

    The paper's first-visit counts, smoothing towards a prior and signatures of raw transcripts are left out.

    Provenance: formula from a paper note; code not seen.

    Reference: Wang, Zheng and Xu 2026, "RTMC: Step-Level Credit Assignment via Rollout Trees".
      https://arxiv.org/abs/2604.11037

    Args:
      batch: N steps in E episodes, with `view_key` and `action_key`.

    Returns:
      Advantage of each step, float64 [N], in units of reward.
    """
    to_go = reverse_discounted_sum(merged_reward(batch), 1.0, batch.step_splits)
    state = anchor_index(batch)
    choice = match_index(batch.group[batch.episode_of_step], batch.view_key, batch.action_key, never=0)
    # Both means add the same numbers in the same order where a state has one action, so that they cancel exactly.
    return np.where(has_spread(to_go, state), group_mean(to_go, choice) - group_mean(to_go, state), 0.0)
