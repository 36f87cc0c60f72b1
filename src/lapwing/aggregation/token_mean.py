"""Every token weighs the same."""

import numpy as np

from lapwing.aggregation._normalise import normalise
from lapwing.core.batch import EpisodeBatch
from lapwing.core.types import Selection

NEEDS = ()


def token_mean(batch: EpisodeBatch, selection: Selection) -> np.ndarray:
    """Give all tokens of the selected episodes the same weight.

        weight_k = factor_e count_e / Σ_j count_{e(j)}     (j over all tokens)

    Long replies and long episodes weigh more than short ones. If nothing is selected all weights are 0.

    Provenance: formula and defaults from the authors' code.

    Reference: Yu et al. 2025, "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", section 3.3.
      https://arxiv.org/abs/2503.14476

    Args:
      batch: E episodes with N steps and K tokens.
      selection: how often each episode counts, and its correction, [E].

    Returns:
      Weight of each token's loss in the update Σ weight · loss, float64 [K], without unit.
    """
    return normalise(batch, selection, np.ones(batch.num_tokens))
