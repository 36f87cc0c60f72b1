"""Discounted returns to go, normalised turn by turn, plus the normalised outcome."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.ragged import reverse_discounted_sum
from lapwing.credit._discount import check_discount
from lapwing.credit._normalised import normalised
from lapwing.credit._settings import check_normalisation, check_weight
from lapwing.credit._turns import same_turn

LEVEL = "step"
SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def gtpo(
    batch: EpisodeBatch,
    *,
    discount: float = 0.9,
    outcome_weight: float = 0.3,
    ddof: int = 1,
    eps: float = 1e-6,
) -> np.ndarray:
    """Give each step its return to go, normalised over its group at that turn, plus the normalised outcome.

        G_{i,k} = Σ_{l=k}^{K−1} γ^{l−k} r_{i,l} + γ^{K−k} o_i
        A_{i,k} = (G_{i,k} − mean_k G) / (std_k G + ε) + λ (o_i − mean_g o) / (std_g o + ε)

    Turns count from 0, and the outcome stands at the virtual turn K = the episode's length, so it is discounted at
    the last step already. The rewards of all steps are turn rewards; the outcome term has `outcome` alone. The
    statistics of turn k run over the episodes of the group that reach it. A turn that one episode reaches, or
    where the returns are equal, gives exactly 0, and so does each term for itself.

    `outcome_weight = 0.3` is the hybrid with MT-GRPO; 0 is GTPO itself, the first term only. The token-level
    method of the same name (group token policy optimisation) is another one.

    Provenance: formula from a paper note; code not seen.

    Reference: Ding et al. 2025, "Empowering Multi-Turn Tool-Integrated Reasoning with Group Turn Policy
      Optimization" (GTPO). https://arxiv.org/abs/2511.14846; Modecrua et al. 2026, "Multi-Turn Reinforcement
      Learning for Tool-Calling Agents with Iterative Reward Calibration" (the hybrid and its defaults).
      https://arxiv.org/abs/2604.02869

    Args:
      batch: N steps in E episodes.
      discount: γ, per step (not per token), in [0, 1]; at 0 the outcome drops out of the return to go.
      outcome_weight: λ, ≥ 0, no unit.
      ddof: delta degrees of freedom of the standard deviations, an integer ≥ 0; 1 = sample, 0 = population.
      eps: ε, added to the standard deviations, ≥ 0, in units of reward.

    Returns:
      Advantage of each step, float64 [N], in standard deviations.

    Raises:
      UserError: `discount` lies outside [0, 1], or `outcome_weight`, `ddof` or `eps` is negative.
    """
    check_discount(discount)
    check_weight("outcome_weight", outcome_weight)
    check_normalisation(ddof, eps)
    reward = batch.reward.astype(np.float64)
    reward[batch.step_splits[1:] - 1] += discount * batch.outcome
    to_go = reverse_discounted_sum(reward, discount, batch.step_splits)
    of_turn = normalised(to_go, same_turn(batch), ddof=ddof, eps=eps)
    of_outcome = normalised(batch.outcome, batch.group, ddof=ddof, eps=eps)
    return of_turn + outcome_weight * of_outcome[batch.episode_of_step]
