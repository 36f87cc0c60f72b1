"""Every step weighs the same."""

import numpy as np

from lapwing.aggregation._normalise import normalise
from lapwing.core.batch import EpisodeBatch
from lapwing.core.types import Selection

NEEDS = ()


def step_mean(batch: EpisodeBatch, selection: Selection) -> np.ndarray:
    """Give all steps of the selected episodes the same weight, split evenly over the tokens of a step.

        weight_k = factor_e count_e / (L_n · Σ_m count_{e(m)})     (m over all steps with tokens, L_n tokens in step n)

    Long thoughts weigh no more than short ones, long episodes still weigh more. A step without tokens is ignored.
    If nothing is selected all weights are 0.

    Provenance: Lapwing's own; the constants are its choice.

    Reference: Shao et al. 2024, "DeepSeekMath", eq. 3, with each step as one sample.
      https://arxiv.org/abs/2402.03300

    Args:
      batch: E episodes with N steps and K tokens.
      selection: how often each episode counts, and its correction, [E].

    Returns:
      Weight of each token's loss in the update Σ weight · loss, float64 [K], without unit.
    """
    tokens_in_step = np.diff(batch.token_splits)
    return normalise(batch, selection, 1.0 / tokens_in_step[batch.step_of_token])
