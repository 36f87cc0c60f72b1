"""Token GAE with one discount inside a turn and another across turns."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.credit._discount import check_unit_interval
from lapwing.credit._gae import final_value, lambda_advantage
from lapwing.credit._tokens import episode_token_splits, token_reward, turn_end

LEVEL = "token"
SCOPE = "group"
NEEDS = ("token_value",)


@checked(*NEEDS)
def dual_gae(
    batch: EpisodeBatch,
    *,
    turn_discount: float = 0.99,
    turn_lambda: float = 0.95,
    token_discount: float = 1.0,
    token_lambda: float = 1.0,
) -> np.ndarray:
    """Give each reply token a GAE that discounts across turns and not, or otherwise, between tokens of a turn.

        A_u = δ_u + γ_u λ_u A_{u+1},   δ_u = r_u + γ_u V_{u+1} − V_u
        (γ_u, λ_u) = (turn_discount, turn_lambda) where u is the last token of its turn, else (token_discount,
        token_lambda)

    So a reward ten turns away is discounted by ten turns, whatever the length of the replies. A turn is a step with
    tokens; a step without any is passed over, and its reward goes to the token before it, or, at the start of an
    episode, to the first token after it. After the last token V is 0 where the rules ended the episode, and
    `final_value` where a limit cut it, one turn away. Equal pairs give `token_gae`. Nothing is whitened. The critic's
    target is A + V.

    Provenance: formula from a paper note; code not seen.

    Reference: Chen et al. 2025, "Verlog: A Multi-turn RL framework for LLM agents", dual discounting GAE.
      https://wentsechen.github.io/Verlog_blogpost; https://openreview.net/forum?id=GmodkWwMV3

    Args:
      batch: E episodes with K reply tokens, with `token_value` [K], and `final_value` [E] if an episode was cut.
      turn_discount: γ from the last token of a turn to the next turn, in [0, 1].
      turn_lambda: λ from the last token of a turn to the next turn, in [0, 1].
      token_discount: γ between tokens of a turn, in [0, 1].
      token_lambda: λ between tokens of a turn, in [0, 1].

    Returns:
      Advantage of each token, float64 [K], in units of reward.

    Raises:
      MissingColumnError: there is no `token_value`, or an episode was cut and there is no `final_value`.
      UserError: a setting lies outside [0, 1].
    """
    check_unit_interval(
        turn_discount=turn_discount, turn_lambda=turn_lambda, token_discount=token_discount, token_lambda=token_lambda
    )
    ends = np.zeros(batch.num_tokens, dtype=bool)
    ends[turn_end(batch)] = True
    return lambda_advantage(
        token_reward(batch),
        batch.column("token_value").astype(np.float64),
        final_value(batch, "dual_gae"),
        episode_token_splits(batch),
        discount=np.where(ends, turn_discount, token_discount),
        lambda_=np.where(ends, turn_lambda, token_lambda),
    )
