"""Episode returns relative to their group, shared by the group-based estimators."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.ragged import group_mean, has_spread


def centred_return(batch: EpisodeBatch) -> np.ndarray:
    """Return of each episode minus the mean return of its group, float64 [E].

    Statistics run over episodes, so a long episode counts once. A group without spread gives exactly 0: the mean
    of equal numbers can differ from them by rounding, and a division by a tiny `eps` would make that a signal.
    """
    episode_return = batch.episode_return
    centred = episode_return - group_mean(episode_return, batch.group)
    return np.where(has_spread(episode_return, batch.group), centred, 0.0)
