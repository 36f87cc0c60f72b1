"""Every episode weighs the same, and inside it every token."""

import numpy as np

from lapwing.aggregation._normalise import episode_of_token, normalise
from lapwing.core.batch import EpisodeBatch
from lapwing.core.types import Selection

NEEDS = ()


def episode_mean(batch: EpisodeBatch, selection: Selection) -> np.ndarray:
    """Give all selected episodes the same weight, split evenly over the tokens of an episode.

        weight_k = factor_e count_e / (L_e · Σ_i count_i)     (i over all episodes with tokens, L_e tokens in e)

    The length of an episode does not change its weight, but a token of a long failure is punished less than one of
    a short failure. An episode without tokens is ignored. If nothing is selected all weights are 0.

    Provenance: formula from public code (TRL).

    Reference: Shao et al. 2024, "DeepSeekMath", eq. 3, with each episode as one sample.
      https://arxiv.org/abs/2402.03300

    Args:
      batch: E episodes with N steps and K tokens.
      selection: how often each episode counts, and its correction, [E].

    Returns:
      Weight of each token's loss in the update Σ weight · loss, float64 [K], without unit.
    """
    tokens_in_episode = np.diff(batch.token_splits[batch.step_splits])
    return normalise(batch, selection, 1.0 / tokens_in_episode[episode_of_token(batch)])
