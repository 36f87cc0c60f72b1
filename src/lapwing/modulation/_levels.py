"""Whether an advantage has one number per step or per token."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import UserError


def one_per_step(batch: EpisodeBatch, advantage: np.ndarray, method: str) -> np.ndarray:
    """The advantage as float64 [N].

    Raises:
      UserError: it has not one number per step, or one that is not finite.
    """
    values = np.asarray(advantage, dtype=np.float64)
    if values.shape != (batch.num_steps,):
        raise UserError(
            f"{method} takes one advantage per step, and the batch has {batch.num_steps} steps, but the advantage "
            f"has the shape {values.shape}; place it behind a credit method of level step."
        )
    return _finite(values, method)


def with_episodes(batch: EpisodeBatch, advantage: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
    """The advantage as float64, and the episode of each of its numbers; a length that fits both axes is read as [N].

    Raises:
      UserError: it has neither one number per step nor one per token, or one that is not finite.
    """
    values = np.asarray(advantage, dtype=np.float64)
    if values.shape == (batch.num_steps,):
        return _finite(values, method), batch.episode_of_step
    if values.shape == (batch.num_tokens,):
        return _finite(values, method), batch.episode_of_step[batch.step_of_token]
    raise UserError(
        f"{method} takes one advantage per step or per token, and the batch has {batch.num_steps} steps and "
        f"{batch.num_tokens} tokens, but the advantage has the shape {values.shape}."
    )


def _finite(values: np.ndarray, method: str) -> np.ndarray:
    finite = np.isfinite(values)
    if not finite.all():
        at = int(np.argmin(finite))
        raise UserError(
            f"{method} needs finite advantages, but number {at} is {values[at]}; the credit method supplies them."
        )
    return values
