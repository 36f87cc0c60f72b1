"""MT-GRPO with turn rewards compared only between steps that saw the same."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.ragged import match_index
from lapwing.credit._turns import mt_grpo_advantage, same_turn

LEVEL = "step"
SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def mt_grpo_prefix(
    batch: EpisodeBatch,
    *,
    coefficient: float = 1.0,
    weight_on: str = "outcome",
    horizon: str = "suffix",
    ddof: int = 1,
    eps: float = 1e-6,
) -> np.ndarray:
    """Give each step what `mt_grpo` gives, with turn statistics over steps of the group that share the view.

        A^I_{i,k} = (r_{i,k} − mean_P r) / (std_P r + ε),   P = {(j, k) : g_j = g_i, view_{j,k} = view_{i,k}, k < K_j}
        A_{i,k} = Σ_{l=k}^{K_i−1} A^I_{i,l} + α A^O_i   for k < K_i,   A_{i,K} = A^O_i

    What it corrects: the derivation of MT-GRPO compares continuations of the same prefix, but independent episodes
    share a prefix only at the first step. By turn index alone, a reward at a later turn is compared with rewards
    that others got elsewhere, so a turn is praised for where earlier turns had led. Here a turn reward is compared
    only with those of the same turn index and `view_key`; a step that shares its view with no other, or whose key
    is 0 (never matches), has a turn term of exactly 0 and keeps the outcome term. The two methods are equal where
    all episodes of a group share the view at each turn, so for two turns with a common start.

    Each term is now centred given the view in which it was earned. A turn's own term no longer carries what earlier
    turns brought about, so in the sum of `horizon = "suffix"` the later terms have expectation 0 given the present
    turn (but for their scaling): delayed effects reach a turn through the outcome, and "immediate" has less noise.

    The outcome term, the merged return of an episode of one step and the settings are those of `mt_grpo`: the
    episodes of a group share their start, so their outcomes may be compared.

    Provenance: Lapwing's own; the constants are its choice.

    Reference: Zeng et al. 2025, "Reinforcing Multi-Turn Reasoning in LLM Agents via Turn-Level Credit Assignment"
      (MT-GRPO, whose later version names the need for continuations from one prefix; matching of views is
      Lapwing's). https://arxiv.org/abs/2505.11821

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
        match_index(same_turn(batch), batch.view_key, never=0),
        coefficient=coefficient,
        weight_on=weight_on,
        horizon=horizon,
        ddof=ddof,
        eps=eps,
    )
