"""Token returns to go, whitened over the batch."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.ragged import reverse_discounted_sum
from lapwing.credit._centred import centred_return
from lapwing.credit._discount import check_discount
from lapwing.credit._normalised import normalised
from lapwing.credit._settings import check_choice, check_normalisation
from lapwing.credit._tokens import episode_token_splits, token_reward

LEVEL = "token"
SCOPE = "batch"
NEEDS = ()


@checked(*NEEDS)
def reinforce_pp(
    batch: EpisodeBatch,
    *,
    discount: float = 1.0,
    baseline: str = "none",
    across_steps: bool = True,
    ddof: int = 1,
    eps: float = 1e-6,
) -> np.ndarray:
    """Give each token the discounted reward from it to the end of its episode, whitened over the batch's tokens.

        G_j = Σ_{u≥j} γ^{u−j} ρ_u,   A_j = (G_j − mean G) / (std G + ε)

    ρ is the reward of a step on its last token, the outcome with that of the last step. A step without tokens
    hands its reward to the last token before it in the episode, or, where there is none, to the first token after
    it; an episode without any token has none to credit. Mean and standard deviation run over all reply tokens of
    the batch, so a long episode has more say in them. A batch of one token, or with equal returns, gives exactly 0.
    The paper subtracts a divergence from the reference policy from ρ; that is a matter of shaping or of a
    regulariser here.

    With `baseline = "group"`, REINFORCE++-baseline, every token has G_j = R_i − mean_g R before whitening: the
    return of its episode less the mean of the group's episodes. That form has no discount.

    Where public implementations disagree: in transcripts of several turns, verl starts the sum anew at the tokens
    of the environment, so that a step hears nothing of later rewards (`across_steps = False`); the paper's sum runs
    to the end of the episode. verl divides by √(var + 1e-8) instead of std + ε.

    Provenance: formula from public code (verl).

    Reference: Hu, Liu and Shen 2025, "REINFORCE++: An Efficient RLHF Algorithm with Robustness to Both Prompt and
      Reward Models". https://arxiv.org/abs/2501.03262

    Args:
      batch: K reply tokens in N steps in E episodes.
      discount: γ, per token (not per step), in [0, 1].
      baseline: "none" (the plain form) or "group".
      across_steps: rewards of later steps count for a token; False ends the sum at the end of its step.
      ddof: delta degrees of freedom of the standard deviation, an integer ≥ 0; 1 = sample, 0 = population.
      eps: ε, added to the standard deviation, ≥ 0, in units of reward.

    Returns:
      Advantage of each token, float64 [K], in standard deviations of the batch.

    Raises:
      UserError: `discount` lies outside [0, 1], `baseline` is unknown or stands beside a discount or
        `across_steps = False`, which it has no use for, or `ddof` or `eps` is negative.
    """
    check_discount(discount)
    check_choice("baseline", baseline, ("none", "group"))
    check_normalisation(ddof, eps)
    if baseline == "group" and (discount != 1.0 or not across_steps):
        raise UserError("baseline 'group' credits the whole return: leave discount at 1 and across_steps at true.")
    if baseline == "group":
        to_go = batch.spread(centred_return(batch)[batch.episode_of_step])
    else:
        splits = episode_token_splits(batch) if across_steps else batch.token_splits
        to_go = reverse_discounted_sum(token_reward(batch), discount, splits)
    whole_batch = np.zeros(batch.num_tokens, dtype=np.int64)
    return normalised(to_go, whole_batch, ddof=ddof, eps=eps)
