"""Anchors: the steps of a group that share what the player saw, and statistics over them."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.ragged import group_mean, group_std, has_spread, match_index


def anchor_index(batch: EpisodeBatch) -> np.ndarray:
    """Number the anchors: two steps have the same number where their group and their view agree, int64 [N].

    A step whose `view_key` is 0 is an anchor of its own.
    """
    return match_index(batch.group[batch.episode_of_step], batch.view_key, never=0)


def anchor_mean(values: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    """Mean over the steps of each step's anchor, float64 [N].

    Where the anchor's values are equal up to rounding each step keeps its own, so that `values − anchor_mean` is
    exactly 0.
    """
    return np.where(has_spread(values, anchor), group_mean(values, anchor), values)


def relative(values: np.ndarray, group: np.ndarray, *, scale_by_std: bool, ddof: int, eps: float) -> np.ndarray:
    """Values minus the mean of their group, divided by its standard deviation plus ε where asked, float64.

    What equals the mean up to rounding gives exactly 0, and so does a group of at most `ddof` members while
    `scale_by_std` is set.
    """
    mean = anchor_mean(values, group)
    centred = np.where(np.abs(values - mean) > 1e-10 * np.maximum(np.abs(mean), 1.0), values - mean, 0.0)
    if not scale_by_std:
        return centred
    std = group_std(values, group, ddof=ddof)
    return np.divide(centred, std + eps, out=np.zeros_like(centred), where=std > 0)
