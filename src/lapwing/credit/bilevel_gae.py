"""GAE over turns first, then over the tokens of each turn."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.credit._discount import check_unit_interval
from lapwing.credit._gae import final_value, lambda_advantage
from lapwing.credit._tokens import token_reward, turn_end, turn_splits

LEVEL = "token"
SCOPE = "group"
NEEDS = ("token_value",)


@checked(*NEEDS)
def bilevel_gae(
    batch: EpisodeBatch, *, discount: float = 1.0, lambda_: float = 1.0, turn_discount: float = 0.95
) -> np.ndarray:
    """Give each reply token a GAE within its turn, whose last token is rewarded with the turn's own GAE.

        turns:   A_k = δ_k + γ_H λ A_{k+1},   δ_k = r_k + γ_H V(p_{k+1}) − V(p_k),   p_k the last token of turn k
        tokens:  A_u = δ_u + γλ A_{u+1},      δ_u = r_u + γ V_{u+1} − V_u,           A_{p_k} = A_k

    The pass over turns sees values at the ends of turns only; the pass over tokens starts anew at each end. A turn is
    a step with tokens, so a turn without reward is a turn like any other; the published code finds the ends of turns
    by their non-zero rewards, which merges such a turn with the next. A step without tokens is passed over, and its
    reward goes to the token before it, or, at the start of an episode, to the first token after it. After the last
    turn V is 0 where the rules ended the episode, and `final_value`, times γ_H, where a limit cut it. One finished
    turn gives `token_gae`. The published code whitens the result over the batch; here that is the modulation
    `whiten`. The critic's target is A + V.

    Provenance: formula and defaults from the authors' code.

    Reference: Wang et al. 2025, "RAGEN: Understanding Self-Evolution in LLM Agents via Multi-Turn Reinforcement
      Learning", bi-level GAE of the authors' code. https://arxiv.org/abs/2504.20073

    Args:
      batch: E episodes with K reply tokens, with `token_value` [K], and `final_value` [E] if an episode was cut.
      discount: γ, between tokens of a turn, in [0, 1].
      lambda_: λ, in both passes, in [0, 1].
      turn_discount: γ_H, from a turn to the next, in [0, 1].

    Returns:
      Advantage of each token, float64 [K], in units of reward.

    Raises:
      MissingColumnError: there is no `token_value`, or an episode was cut and there is no `final_value`.
      UserError: a setting lies outside [0, 1].
    """
    check_unit_interval(discount=discount, lambda_=lambda_, turn_discount=turn_discount)
    value = batch.column("token_value").astype(np.float64)
    reward = token_reward(batch)
    ends = turn_end(batch)
    after = final_value(batch, "bilevel_gae")
    of_turn = lambda_advantage(
        reward[ends], value[ends], after, turn_splits(batch), discount=turn_discount, lambda_=lambda_
    )
    reward[ends] = of_turn + value[ends]
    nothing = np.zeros(batch.num_steps)  # The turn's number already holds all that comes after it.
    return lambda_advantage(reward, value, nothing, batch.token_splits, discount=discount, lambda_=lambda_)
