"""What credit the steps of an iteration's episodes got, for the record."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.types import Episode


class StepCredit(NamedTuple):
    """The credit of one step.

    Attributes:
      advantage: what the loss saw, after modulation; the mean over the step's tokens where credit is per token; None
        where there is no finite number.
      credit: the same before modulation, as the credit method gave it.
      token_advantage, token_credit: both per reply token; None where credit is per step.
    """

    advantage: float | None
    credit: float | None
    token_advantage: list[float | None] | None = None
    token_credit: list[float | None] | None = None


class CreditedRollout(NamedTuple):
    """What an iteration played, and what credit it gave to whom.

    Attributes:
      episodes: all that were played.
      batch: those that review and filters left, laid end to end.
      level: "step" or "token", the axis of the two arrays.
      credit: what the credit method gave, [N] or [K] by level.
      advantage: what the loss saw, after modulation, [N] or [K] by level.
    """

    episodes: Sequence[Episode]
    batch: EpisodeBatch
    level: str
    credit: np.ndarray
    advantage: np.ndarray

    def first(self, count: int) -> tuple[list[Episode], list[list[StepCredit] | None]]:
        """The first episodes, and the credit of their steps; None for an episode that was not learnt from."""
        episodes = list(self.episodes[:count])
        # The batch numbers matches in the order in which they appear among the episodes.
        numbers: dict[str, int] = {}
        for episode in episodes:
            numbers.setdefault(episode.match.identifier, len(numbers))
        at = {pair: i for i, pair in enumerate(zip(self.batch.match.tolist(), self.batch.player.tolist(), strict=True))}
        found = [at.get((numbers[episode.match.identifier], episode.player)) for episode in episodes]
        return episodes, [None if i is None else self._steps(i) for i in found]

    def _steps(self, episode: int) -> list[StepCredit]:
        first, end = self.batch.step_splits[episode : episode + 2].tolist()
        if self.level == "step":
            return [StepCredit(_finite(self.advantage[n]), _finite(self.credit[n])) for n in range(first, end)]
        splits = self.batch.token_splits
        tokens = [slice(int(splits[n]), int(splits[n + 1])) for n in range(first, end)]
        return [
            StepCredit(
                _mean(self.advantage[part]),
                _mean(self.credit[part]),
                [_finite(value) for value in self.advantage[part]],
                [_finite(value) for value in self.credit[part]],
            )
            for part in tokens
        ]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _mean(values: np.ndarray) -> float | None:
    return _finite(values.mean()) if len(values) else None


def no_credit(batch: EpisodeBatch) -> np.ndarray:
    """Advantage 0 for every step, for losses that use none (cloning)."""
    return np.zeros(batch.num_steps)
