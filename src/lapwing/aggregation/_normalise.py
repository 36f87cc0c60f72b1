"""The arithmetic that the means share."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.types import Selection


def episode_of_token(batch: EpisodeBatch) -> np.ndarray:
    """The episode of each reply token, [K]."""
    return batch.episode_of_step[batch.step_of_token]


def normalise(batch: EpisodeBatch, selection: Selection, share: np.ndarray) -> np.ndarray:
    """Weights in proportion to `share`, float64 [K].

        weight_k = factor_e count_e share_k / Σ_j count_{e(j)} share_j

    An episode counts `count` times above and below the line, its `factor` above only. A step without tokens has no
    share and so drops out of both. If nothing is selected all weights are 0.

    Args:
      batch: K tokens in E episodes.
      selection: `count` and `factor`, [E].
      share: part of each token in what is averaged over, [K].
    """
    episode = episode_of_token(batch)
    counted = selection.count[episode] * share
    total = counted.sum()
    if total == 0:
        return np.zeros(batch.num_tokens)
    return selection.factor[episode] * counted / total
