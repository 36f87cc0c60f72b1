"""Returns to go, normalised over the batch."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.credit._discount import check_discount
from lapwing.credit._normalised import normalised
from lapwing.credit._settings import check_normalisation
from lapwing.credit.return_to_go import return_to_go

LEVEL = "step"
SCOPE = "batch"
NEEDS = ()


@checked(*NEEDS)
def rebn(batch: EpisodeBatch, *, discount: float = 1.0, ddof: int = 1, eps: float = 1e-9) -> np.ndarray:
    """Give each step its return to go, centred and scaled over all steps of the batch.

        G_t = r_t + γ G_{t+1},   A_t = (G_t − mean G) / (std G + ε)

    The outcome counts as reward of the last step. Neither a critic nor groups are needed: below γ = 1 the discount
    tells early turns from late ones. The statistics run over steps, so a long episode has more say in them. A
    batch of one step, or with equal returns to go, gives exactly 0.

    Provenance: formula and defaults from the authors' code.

    Reference: Liu et al. 2025, "GEM: A Gym for Agentic LLMs" (REINFORCE with return batch normalisation).
      https://arxiv.org/abs/2510.01051

    Args:
      batch: N steps in E episodes.
      discount: γ, per step (not per token), in [0, 1].
      ddof: delta degrees of freedom of the standard deviation, an integer ≥ 0; 1 = sample, 0 = population.
      eps: ε, added to the standard deviation, ≥ 0, in units of reward.

    Returns:
      Advantage of each step, float64 [N], in standard deviations of the batch.

    Raises:
      UserError: `discount` lies outside [0, 1], or `ddof` or `eps` is negative.
    """
    check_discount(discount)
    check_normalisation(ddof, eps)
    whole_batch = np.zeros(batch.num_steps, dtype=np.int64)
    return normalised(return_to_go(batch, discount=discount), whole_batch, ddof=ddof, eps=eps)
