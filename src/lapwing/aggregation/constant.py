"""Every token weighs the same, whatever the lengths of this batch."""

import numpy as np

from lapwing.aggregation._normalise import episode_of_token
from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import UserError
from lapwing.core.types import Selection

NEEDS = ()


def constant(batch: EpisodeBatch, selection: Selection, *, budget: float) -> np.ndarray:
    """Divide by the number of selected episodes and a fixed number of tokens.

        weight_k = factor_e count_e / (budget · Σ_i count_i)     (i over all episodes)

    The lengths of the batch's replies play no part, so that a token's weight is the same in long and in short
    episodes and from one iteration to the next. The weights sum to 1 only if episodes have `budget` tokens on
    average. If nothing is selected all weights are 0.

    Provenance: formula and defaults from the authors' code.

    Reference: Liu et al. 2025, "Understanding R1-Zero-Like Training: A Critical Perspective" (Dr. GRPO).
      https://arxiv.org/abs/2503.20783

    Args:
      batch: E episodes with N steps and K tokens.
      selection: how often each episode counts, and its correction, [E].
      budget: tokens that an episode may use, > 0; the configured limit, not the batch's longest.

    Returns:
      Weight of each token's loss in the update Σ weight · loss, float64 [K], in 1/tokens.

    Raises:
      UserError: `budget` is not positive and finite.
    """
    if not 0.0 < budget < np.inf:
        raise UserError(f"budget must be a positive number of tokens, but it is {budget}.")
    episode = episode_of_token(batch)
    total = max(int(selection.count.sum()), 1)
    return selection.factor[episode] * selection.count[episode] / (budget * total)
