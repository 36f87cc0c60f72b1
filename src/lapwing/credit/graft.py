"""TD errors of the values that solve the group's merged empirical graph."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

from lapwing.core.batch import EpisodeBatch, merged_reward
from lapwing.core.checked import checked
from lapwing.core.ragged import group_mean, has_spread
from lapwing.credit._anchors import anchor_index
from lapwing.credit._discount import check_discount

LEVEL = "step"
SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def graft(batch: EpisodeBatch, *, discount: float = 0.99) -> np.ndarray:
    """Give each step the change in value that it brought on the graph into which the group's episodes merge.

        V(s) = Σ_a π(a|s) Σ_{s'} P(s'|s, a) γ (r + V(s')) = mean { γ (r_u + V(s_{u+1})) : s_u = s }
        A_t  = γ (r_t + V(s_{t+1})) − V(s_t),   V(end) = 0

    Nodes are the states of the group, told by `view_key`; π and P are how often the group chose and went. Their
    product is how often it went from s to s', so actions need no keys. A value thus joins the pieces of all episodes
    that touch, while a mean return to go knows only what followed in the same episode. The equations of all groups
    are solved at once and exactly, where the paper iterates. Nothing is normalised and there is no λ. The cost per
    step grows with the number of states in a group.

    The paper has one reward, at the end, and fixes the value of a sink to it, so that it is discounted on the last
    step too: A = γV(s') − V(s). Here every reward, like that one, arrives with the next state; with rewards at the
    end only this is the paper's form, and else γ times the ordinary TD error. Every end is a sink, also that of a
    truncated episode, and the outcome counts as reward of the last step. As every episode ends, no node is without a
    way to a sink. A state that the group saw once, or with equal prospects every time, gives exactly 0; a `view_key`
    of 0 matches no other step.

    Provenance: formula from the paper's text; code not seen.

    Reference: GRAFT 2026, the values and the raw advantage of its merged graph. https://arxiv.org/abs/2609.28963;
      Sutton and Barto 2018, "Reinforcement Learning: An Introduction", section 6.3 (these values are those of batch
      TD(0)). http://incompleteideas.net/book/the-book-2nd.html

    Args:
      batch: N steps in E episodes, with `view_key`.
      discount: γ, per step (not per token), in [0, 1].

    Returns:
      Advantage of each step, float64 [N], in units of reward.

    Raises:
      UserError: `discount` lies outside [0, 1].
    """
    check_discount(discount)
    node = anchor_index(batch)
    reward = merged_reward(batch)
    before = np.delete(np.arange(batch.num_steps), batch.step_splits[1:] - 1)
    visits = np.bincount(node)
    went = sparse.coo_array((1.0 / visits[node[before]], (node[before], node[before + 1])), shape=(len(visits),) * 2)
    arrived = np.bincount(node, weights=reward) / visits
    equations = (sparse.eye_array(len(visits)) - discount * went).tocsc()
    value = np.asarray(spsolve(equations, discount * arrived, use_umfpack=False))
    after = np.zeros(batch.num_steps)
    after[before] = value[node[before + 1]]
    prospect = discount * (reward + after)
    # V(s) is the mean of these; taken anew, it leaves no rounding of the solution in a state that was seen once.
    return np.where(has_spread(prospect, node), prospect - group_mean(prospect, node), 0.0)
