"""Return to go relative to steps with the same recent history, over several lengths of it."""

import numpy as np

from lapwing.core.batch import EpisodeBatch, merged_reward
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.ragged import match_index, reverse_discounted_sum
from lapwing.credit._anchors import anchor_index, relative
from lapwing.credit._discount import check_discount
from lapwing.credit._settings import check_choice, check_normalisation, check_weight

LEVEL = "step"
SCOPE = "group"
NEEDS = ()
# Beyond these a power has no float64, and looking back takes minutes.
_DEEPEST = 100
_STEEPEST = 100.0


@checked(*NEEDS)
def hgpo(
    batch: EpisodeBatch,
    *,
    discount: float = 0.95,
    depth: int = 2,
    alpha: float = 1.0,
    scale_by_std: bool = False,
    ddof: int = 1,
    eps: float = 1e-6,
    base_group: bool = False,
    level_weights: str = "code",
) -> np.ndarray:
    """Average a step's relative returns to go over groups whose steps agree in more and more of their history.

        A_k = (G − mean_{S_k} G) / F,   S_k = steps of the group whose last k views are the same,   k = 1 … K + 1
        A   = Σ_k w_k A_k / Σ_k w_k   over the k with A_k ≠ 0,   w_k = (k + 1)^α,   G_t = r_t + γ G_{t+1}

    F = 1, or the standard deviation of the same set plus ε with `scale_by_std`. The last k views are the step's own
    and those of the k − 1 steps before it in its episode; a step with fewer behind it, or with a `view_key` of 0
    among them, has no group of that depth. Depth K = 0 is the step part of `gigpo`. A depth that says nothing
    (exactly 0: a group of one, without spread, or a return equal to the mean) is left out of the average, so its
    weight goes to the others; a step without any gets exactly 0. With `base_group` the relative return of the
    episode joins with weight 1.

    Public forms disagree. The paper weighs by the history before the step's own view, k^α in the numbers above; the
    authors' code counts that view too, (k + 1)^α, so that the step's own view and one before it weigh 2 : 3 instead of
    1 : 2. `level_weights` chooses; the default is the code's. Both divide by the standard
    deviation in their main experiments, the code by that of the population (`ddof` 0); the default leaves returns in
    units of reward, as `gigpo` does. The code's base group takes statistics over rows, here over episodes.

    Provenance: formula and defaults from the authors' code.

    Reference: He et al. 2026, "Hierarchy-of-Groups Policy Optimization for Long-Horizon Agentic Tasks", section 4.2.
      https://arxiv.org/abs/2602.22817

    Args:
      batch: N steps in E episodes, with `view_key`.
      discount: γ, per step (not per token), in [0, 1].
      depth: K, steps of history that the deepest group compares, an integer in [0, 100].
      alpha: α, how much more a longer history weighs, in [0, 100], no unit; 0 weighs all depths equally.
      scale_by_std: divide by the standard deviation of the set that the return is relative to.
      ddof: delta degrees of freedom of the standard deviation, an integer ≥ 0; 1 = sample, 0 = population.
      eps: ε, added to the standard deviation, ≥ 0, in units of reward.
      base_group: let the episode's relative return join the average.
      level_weights: "code" for (k + 1)^α or "paper" for k^α.

    Returns:
      Advantage of each step, float64 [N], in units of reward (in standard deviations with scaling).

    Raises:
      UserError: `discount` lies outside [0, 1], `depth` or `alpha` outside [0, 100], `ddof` or `eps` is negative, or
        `level_weights` is unknown.
    """
    check_discount(discount)
    if not 0 <= depth <= _DEEPEST:
        raise UserError(f"depth must be at least 0 and at most {_DEEPEST}, but it is {depth}.")
    check_weight("alpha", alpha)
    if alpha > _STEEPEST:
        raise UserError(f"alpha must be at most {_STEEPEST}, but it is {alpha}.")
    check_normalisation(ddof, eps)
    check_choice("level_weights", level_weights, ("code", "paper"))
    scaling = {"scale_by_std": scale_by_std, "ddof": ddof, "eps": eps}
    to_go = reverse_discounted_sum(merged_reward(batch), discount, batch.step_splits)
    total, weight = np.zeros(batch.num_steps), np.zeros(batch.num_steps)
    if base_group:
        total += relative(batch.episode_return, batch.group, **scaling)[batch.episode_of_step]
        weight += total != 0.0
    for views, peers in enumerate(_histories(batch, depth), start=1):
        level = relative(to_go, peers, **scaling)
        of_level = float(views + 1 if level_weights == "code" else views) ** alpha
        total += of_level * level
        weight += of_level * (level != 0.0)
    return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0.0)


def _histories(batch: EpisodeBatch, depth: int) -> list[np.ndarray]:
    """For k = 1 … depth + 1 a number per step that steps with the same last k views share, [N] each."""
    own = anchor_index(batch)
    position = np.arange(batch.num_steps) - np.repeat(batch.step_splits[:-1], batch.episode_length)
    histories = [own]
    for back in range(1, depth + 1):
        # The last k views of a step are its own and the last k − 1 of the step before it.
        longer = match_index(np.roll(histories[-1], 1), own)
        histories.append(np.where(position < back, -1 - np.arange(batch.num_steps), longer))
    return histories
