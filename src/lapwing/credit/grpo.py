"""Group-relative advantage of the episode return."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.ragged import group_std
from lapwing.credit._centred import centred_return

LEVEL = "step"
SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def grpo(batch: EpisodeBatch, *, scale_by_std: bool = True, ddof: int = 1, eps: float = 1e-6) -> np.ndarray:
    """Give every step of an episode the episode's return, centred and scaled within its group.

        A_i = (R_i − mean_g R) / (std_g R + ε)

    Mean and standard deviation run over the episodes of the group, never over steps. A group of one, or with
    equal returns, gives exactly 0; so does a group of at most `ddof` members while `scale_by_std` is set, because
    it has no standard deviation. Public implementations differ in `ddof` and `eps`: TRL has 1 and 1e-4, verl 1 and
    1e-6, papers' algebra often 0 and 0.

    Provenance: formula and defaults from the authors' code.

    Reference: Shao et al. 2024, "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language
      Models", section 4.1.2. https://arxiv.org/abs/2402.03300; with the return of a whole multi-step episode
      credited to each of its steps: Dilkes, Yazdanpanah and Stein 2025 (MS-GRPO). https://arxiv.org/abs/2508.10839

    Args:
      batch: N steps in E episodes.
      scale_by_std: divide by the group's standard deviation.
      ddof: delta degrees of freedom of the standard deviation, an integer ≥ 0; 1 = sample, 0 = population.
      eps: ε, added to the standard deviation, ≥ 0, in units of reward.

    Returns:
      Advantage of each step, float64 [N], in standard deviations (in units of reward without scaling).

    Raises:
      UserError: `ddof` or `eps` is negative.
    """
    if ddof < 0:
        raise UserError(f"ddof must be at least 0, but it is {ddof}.")
    if not eps >= 0.0:
        raise UserError(f"eps must be at least 0, but it is {eps}.")
    advantage = centred_return(batch)
    if scale_by_std:
        std = group_std(batch.episode_return, batch.group, ddof=ddof)
        advantage = np.divide(advantage, std + eps, out=np.zeros_like(advantage), where=std > 0)
    return advantage[batch.episode_of_step]
