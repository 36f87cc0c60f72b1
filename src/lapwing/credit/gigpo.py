"""Group-relative episode return plus the return to go relative to the steps that saw the same."""

import numpy as np

from lapwing.core.batch import EpisodeBatch, merged_reward
from lapwing.core.checked import checked
from lapwing.core.ragged import reverse_discounted_sum
from lapwing.credit._anchors import anchor_index, relative
from lapwing.credit._discount import check_discount
from lapwing.credit._settings import check_choice, check_normalisation, check_weight

LEVEL = "step"
SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def gigpo(
    batch: EpisodeBatch,
    *,
    discount: float = 0.95,
    step_weight: float = 1.0,
    scale_by_std: bool = False,
    ddof: int = 1,
    eps: float = 1e-6,
    episode_statistics: str = "episodes",
) -> np.ndarray:
    """Add to the episode's relative return the step's return to go relative to the group's steps in the same state.

        A_{i,t} = A^E_i + ω A^S_{i,t}
        A^E_i   = (R_i − mean_g R) / F
        A^S_{i,t} = (G_{i,t} − mean_S G) / F,   G_t = r_t + γ G_{t+1},   S = steps of the group with the same view

    F = 1, or the standard deviation of the same set plus ε with `scale_by_std`. States are told by an exact match of
    `view_key`, and every visit counts, also several in one episode; the paper's matching of similar texts is left
    out. A set of one, or without spread, adds exactly 0, so with no view seen twice, or with ω = 0, this is `grpo`.
    A `view_key` of 0 matches no other step.

    Public implementations differ in where A^E takes its statistics. The default takes them over the episodes of the
    group, as the paper does; "steps" takes them over all rows, as verl-agent does unless told otherwise, so that a
    long episode counts once for each of its steps. verl-agent passes the raw return of a group of one on as its
    advantage; here that is 0.

    Provenance: formula and defaults from the authors' code.

    Reference: Feng et al. 2025, "Group-in-Group Policy Optimization for LLM Agent Training", section 4.
      https://arxiv.org/abs/2505.10978

    Args:
      batch: N steps in E episodes, with `view_key`.
      discount: γ of the step part, per step (not per token), in [0, 1]; the episode part is not discounted.
      step_weight: ω, weight of the step part, ≥ 0, no unit.
      scale_by_std: divide both parts by the standard deviation of the set that they are relative to.
      ddof: delta degrees of freedom of the standard deviation, an integer ≥ 0; 1 = sample, 0 = population.
      eps: ε, added to the standard deviation, ≥ 0, in units of reward.
      episode_statistics: what the statistics of A^E count, "episodes" or "steps".

    Returns:
      Advantage of each step, float64 [N], in units of reward (in standard deviations with scaling).

    Raises:
      UserError: `discount` lies outside [0, 1], `step_weight`, `ddof` or `eps` is negative, or `episode_statistics` is
        unknown.
    """
    check_discount(discount)
    check_normalisation(ddof, eps)
    check_weight("step_weight", step_weight)
    check_choice("episode_statistics", episode_statistics, ("episodes", "steps"))
    scaling = {"scale_by_std": scale_by_std, "ddof": ddof, "eps": eps}
    of_step = batch.episode_of_step
    if episode_statistics == "episodes":
        episode_part = relative(batch.episode_return, batch.group, **scaling)[of_step]
    else:
        episode_part = relative(batch.episode_return[of_step], batch.group[of_step], **scaling)
    to_go = reverse_discounted_sum(merged_reward(batch), discount, batch.step_splits)
    return episode_part + step_weight * relative(to_go, anchor_index(batch), **scaling)
