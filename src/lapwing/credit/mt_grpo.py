"""Group-relative advantage with turn rewards credited to the turns that earned them."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.credit._turns import mt_grpo_advantage, same_turn

LEVEL = "step"
SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def mt_grpo(
    batch: EpisodeBatch,
    *,
    coefficient: float = 1.0,
    weight_on: str = "outcome",
    horizon: str = "suffix",
    ddof: int = 1,
    eps: float = 1e-6,
) -> np.ndarray:
    """Give each step the normalised turn rewards from it on plus the normalised outcome of its episode.

        A^I_{i,k} = (r_{i,k} − mean_k r) / (std_k r + ε),   k = 1 … K_i − 1
        A^O_i = (o_i − mean_g o) / (std_g o + ε),   o_i = outcome_i + r_{i,K_i}
        A_{i,k} = Σ_{l=k}^{K_i−1} A^I_{i,l} + α A^O_i   for k < K_i,   A_{i,K} = A^O_i

    Turn rewards are the rewards of all steps but the last; the reward of the last step counts with the outcome.
    The statistics of turn index k run over the episodes of the group that have an intermediate turn with that
    index, those of the outcome over all episodes of the group. An episode of one step has no turn reward and gets
    its normalised return (outcome and rewards merged, over all episodes of the group), so that skipping a rewarded
    turn is not free. Without spread, or with one episode to compare, a term is exactly 0.

    Where public forms disagree: the paper multiplies the outcome, A^I + α A^O (`weight_on = "outcome"`); the
    authors' code multiplies the turn term, A^O + c A^I (`weight_on = "turn"`). They agree at 1. The paper's first
    version credits a turn with its own reward only (`horizon = "immediate"`); the sum over later turns is the form
    that the follow-up states for more than two turns, the paper's own equation for them could not be checked. The
    authors' code has `eps` 1e-4, and counts an episode without the turn as turn reward 0 in its statistics; the
    paper asks for equally many turns in a group, where that makes no difference.

    From the third step on, the episodes of a group have different pasts, and statistics by turn index compare
    them all the same; `mt_grpo_prefix` does not.

    Provenance: formula from the paper's text and the authors' code.

    Reference: Zeng et al. 2025, "Reinforcing Multi-Turn Reasoning in LLM Agents via Turn-Level Credit Assignment"
      (MT-GRPO). https://arxiv.org/abs/2505.11821; for K turns Modecrua et al. 2026, "Multi-Turn Reinforcement
      Learning for Tool-Calling Agents with Iterative Reward Calibration". https://arxiv.org/abs/2604.02869

    Args:
      batch: N steps in E episodes.
      coefficient: α, the weight of the outcome before the last step, or c, that of the turn term; ≥ 0, no unit.
      weight_on: "outcome" (the paper) or "turn" (the authors' code).
      horizon: "suffix" sums over the later turns too, "immediate" takes the turn's own reward.
      ddof: delta degrees of freedom of the standard deviations, an integer ≥ 0; 1 = sample, 0 = population.
      eps: ε, added to the standard deviations, ≥ 0, in units of reward.

    Returns:
      Advantage of each step, float64 [N], in standard deviations.

    Raises:
      UserError: `coefficient`, `ddof` or `eps` is negative, or `weight_on` or `horizon` is unknown.
    """
    return mt_grpo_advantage(
        batch,
        same_turn(batch),
        coefficient=coefficient,
        weight_on=weight_on,
        horizon=horizon,
        ddof=ddof,
        eps=eps,
    )
