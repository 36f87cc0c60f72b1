"""How much an episode has to teach: the size of its advantages."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import LapwingError
from lapwing.core.ragged import segment_mean, segment_sum


def episode_magnitude(batch: EpisodeBatch, advantage: np.ndarray) -> np.ndarray:
    """Mean of |advantage| over the steps of each episode, float64 [E].

    Of an advantage per token, a step has the mean over its tokens, and steps without tokens do not count; then
    spreading a step-level advantage to its tokens changes nothing. A length that fits both axes is read as [N].

    Raises:
      LapwingError: the length is neither N nor K.
    """
    size = np.abs(np.asarray(advantage, dtype=np.float64))
    if len(size) == batch.num_steps:
        return segment_mean(size, batch.step_splits)
    if len(size) == batch.num_tokens:
        written = (np.diff(batch.token_splits) > 0).astype(np.float64)
        steps = segment_sum(written, batch.step_splits)
        return segment_sum(segment_mean(size, batch.token_splits), batch.step_splits) / np.maximum(steps, 1)
    raise LapwingError(
        f"The advantage has length {len(size)}; the batch has {batch.num_steps} steps and {batch.num_tokens} tokens."
    )
