"""Every episode weighs the same, inside it every step, inside that every token."""

import numpy as np

from lapwing.aggregation._normalise import episode_of_token, normalise
from lapwing.core.batch import EpisodeBatch
from lapwing.core.ragged import segment_sum
from lapwing.core.types import Selection

NEEDS = ()


def episode_step_mean(batch: EpisodeBatch, selection: Selection) -> np.ndarray:
    """Give all selected episodes the same weight, split evenly over their steps and then over the tokens of a step.

        weight_k = factor_e count_e / (L_n · T_e · Σ_i count_i)     (T_e steps with tokens in e, L_n tokens in step n)

    Neither the length of an episode nor that of a reply changes its weight. Steps and episodes without tokens are
    ignored. If nothing is selected all weights are 0.

    Provenance: Lapwing's own; the constants are its choice.

    Reference: Shao et al. 2024, "DeepSeekMath", eq. 3, applied to the steps of an episode and to the tokens of a
      step in turn. https://arxiv.org/abs/2402.03300

    Args:
      batch: E episodes with N steps and K tokens.
      selection: how often each episode counts, and its correction, [E].

    Returns:
      Weight of each token's loss in the update Σ weight · loss, float64 [K], without unit.
    """
    tokens_in_step = np.diff(batch.token_splits)
    steps_in_episode = segment_sum((tokens_in_step > 0).astype(np.float64), batch.step_splits)
    share = 1.0 / (tokens_in_step[batch.step_of_token] * steps_in_episode[episode_of_token(batch)])
    return normalise(batch, selection, share)
