"""PairBatch: which episode of a batch is preferred to which, and what a loss of pairs may ask for."""

from dataclasses import dataclass, field

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import LapwingError

# The arguments of a loss of pairs that are tensors [P]; all others are settings.
PAIR_TENSORS = (
    "chosen_logprob",
    "rejected_logprob",
    "chosen_reference",
    "rejected_reference",
    "chosen_divergence",
    "chosen_length",
    "rejected_length",
    "margin",
)
_EMPTY = np.zeros(0)


@dataclass(frozen=True)
class PairBatch:
    """P pairs of episodes of one batch, and how much each pair counts.

    Attributes:
      chosen [P], rejected [P]: numbers of the episodes in `batch`, int64. Where a loss learns from one side alone
        (Nash-MD), `chosen` is who learns and `rejected` who it is compared with.
      weight [P]: how much each pair counts, float64, ≥ 0, no unit.
      batch: the episodes, with all that their tokens need to be learnt from.
      margin [P]: by how much the chosen is preferred, float64, in units of the pairing; 0 where it says nothing.
    """

    chosen: np.ndarray
    rejected: np.ndarray
    weight: np.ndarray
    batch: EpisodeBatch
    margin: np.ndarray = field(default_factory=lambda: _EMPTY)

    def __post_init__(self) -> None:
        pairs = len(self.chosen)
        margin = self.margin if len(self.margin) or not pairs else np.zeros(pairs)
        given = {"chosen": self.chosen, "rejected": self.rejected, "weight": self.weight, "margin": margin}
        for name, values in given.items():
            if len(values) != pairs:
                raise LapwingError(f"The pairs' column '{name}' has length {len(values)}, the pairs need {pairs}.")
            array = np.array(values, dtype=np.int64 if name in ("chosen", "rejected") else np.float64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        self._check()

    def _check(self) -> None:
        for name, episodes in (("chosen", self.chosen), ("rejected", self.rejected)):
            odd = episodes[(episodes < 0) | (episodes >= self.batch.num_episodes)]
            if len(odd):
                raise LapwingError(f"'{name}' names episode {odd[0]}; the batch has {self.batch.num_episodes}.")
        if (self.chosen == self.rejected).any():
            at = int(np.argmax(self.chosen == self.rejected))
            raise LapwingError(f"Pair {at} prefers episode {self.chosen[at]} to itself.")
        if not (np.isfinite(self.weight) & (self.weight >= 0.0)).all():
            raise LapwingError("Weights of pairs are finite and at least 0.")
        if not np.isfinite(self.margin).all():
            raise LapwingError("Margins of pairs are finite.")

    @property
    def num_pairs(self) -> int:
        """P."""
        return len(self.chosen)

    def select(self, keep: np.ndarray) -> "PairBatch":
        """The chosen pairs, of the same batch.

        Args:
          keep: numbers of pairs, or bool [P].
        """
        return PairBatch(
            self.chosen[keep], self.rejected[keep], self.weight[keep], self.batch, margin=self.margin[keep]
        )
