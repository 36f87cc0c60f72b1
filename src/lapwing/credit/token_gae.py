"""Generalised advantage estimation over the tokens of a whole episode."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.credit._discount import check_unit_interval
from lapwing.credit._gae import final_value, lambda_advantage
from lapwing.credit._tokens import episode_token_splits, token_reward

LEVEL = "token"
SCOPE = "group"
NEEDS = ("token_value",)


@checked(*NEEDS)
def token_gae(batch: EpisodeBatch, *, discount: float = 1.0, lambda_: float = 1.0) -> np.ndarray:
    """Give each reply token its GAE, with every step's reward on the step's last token.

        A_u = δ_u + γλ A_{u+1},   δ_u = r_u + γ V_{u+1} − V_u,   u = 1 … all reply tokens of the episode in order

    This is the credit of MT-PPO. Only reply tokens take part: the recursion goes from the last token of a step to the
    first of the next, past the observation between them, whose values nobody trained. After the last token V is 0
    where the rules ended the episode, and `final_value` where a limit cut it. The outcome is a reward of the last
    step. The reward of a step without tokens goes to the token before it, or, at the start of an episode, to the
    first token after it. γ and λ count tokens, so γ below 1 kills credit within a long reply. With γ = λ = 1, the
    default and MT-PPO's setting, A is the return to go minus the value. The critic's target is A + V.

    Provenance: formula from the paper; the defaults are common practice.

    Reference: Wei et al. 2025, "Reinforcing Multi-Turn Reasoning in LLM Agents via Turn-Level Reward Design"
      (MT-PPO). https://arxiv.org/abs/2505.11821; Schulman et al. 2015. https://arxiv.org/abs/1506.02438

    Args:
      batch: E episodes with K reply tokens, with `token_value` [K], and `final_value` [E] if an episode was cut.
      discount: γ, per token, in [0, 1].
      lambda_: λ, per token, in [0, 1].

    Returns:
      Advantage of each token, float64 [K], in units of reward.

    Raises:
      MissingColumnError: there is no `token_value`, or an episode was cut and there is no `final_value`.
      UserError: `discount` or `lambda_` lies outside [0, 1].
    """
    check_unit_interval(discount=discount, lambda_=lambda_)
    return lambda_advantage(
        token_reward(batch),
        batch.column("token_value").astype(np.float64),
        final_value(batch, "token_gae"),
        episode_token_splits(batch),
        discount=discount,
        lambda_=lambda_,
    )
