"""Several sets of weights that learn in the same iterations, each from the episodes of its own seats."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import LapwingError
from lapwing.models.scorer import Scorer
from lapwing.training.by_seat import BySeat, all_tensors, own_tensors
from lapwing.training.learner import Learner

# Where plain names are not of seat 0: what alarms must see whichever seat it is of.
_OF_ALL: Mapping[str, Callable[..., float]] = {
    "update/count": min,
    "update/skipped": min,
    "update/nonfinite": max,
    "update/out_of_memory": max,
    "policy/gap": max,
    "policy/gap_max": max,
}
_VERSION, _BATCH_TOKENS = "version", "batch_tokens"


class SeatLearners:
    """One learner for each set of weights; none knows of the others.

    A version of all weights together is the sum of their versions, so that it grows with every update of any.
    """

    def __init__(self, by_seat: BySeat, learners: Sequence[Learner]) -> None:
        """Take the learners, in the order of the sets."""
        self.by_seat = by_seat
        self.learners = tuple(learners)

    @property
    def version(self) -> int:
        """Of all weights together."""
        return sum(learner.version for learner in self.learners)

    @property
    def fault(self) -> str:
        """Why updates were left out, with the seat of each; empty where none was."""
        pairs = zip(self.by_seat.sets, self.learners, strict=True)
        return "; ".join(f"seat {min(own)}: {learner.fault}" for own, learner in pairs if learner.fault)

    @property
    def scorer(self) -> Scorer:
        """That of seat 0."""
        return self.learners[0].scorer

    @property
    def safe_point(self) -> Callable[[], None]:
        """Is called before every micro-batch of any learner, and may raise."""
        return self.learners[0].safe_point

    @safe_point.setter
    def safe_point(self, call: Callable[[], None]) -> None:
        """From now on this is called."""
        for learner in self.learners:
            learner.safe_point = call

    def update(
        self,
        batch: EpisodeBatch,
        advantage: np.ndarray,
        weight: np.ndarray,
        *,
        progress: float = 0.0,
        given: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, float]:
        """Each learner goes through its own episodes; arguments as for `Learner`, without `given`.

        Returns:
          Metrics by name, and by name and seat as `<name>:<seat>`. Plain names are of seat 0, but counts and gaps: of
          the seat with the fewest updates, the most of those left out, the largest gap.

        Raises:
          LapwingError: other weights played than should have, or there are arguments of pairs.
        """
        if given:
            raise LapwingError("Pairs are not divided among seats with weights of their own.")
        if odd := set(np.unique(batch.policy_version).tolist()) - {self.version}:
            raise LapwingError(
                f"Episodes were played with version {min(odd)} of the weights instead of {self.version}: the learners' "
                "weights did not reach the policies. Nothing was learnt from these episodes; go on from the last "
                "checkpoint with lapwing resume."
            )
        found = []
        for share, learner in zip(self.by_seat.shares(batch), self.learners, strict=True):
            own, tokens = share.batch, share.at["K"]
            # A learner counts its own updates.
            own = own.with_columns(policy_version=np.full(own.num_steps, learner.version))
            found.append(learner.update(own, advantage[tokens], weight[tokens], progress=progress))
        of_all = {
            name: choose(known)
            for name, choose in _OF_ALL.items()
            if (known := [metrics[name] for metrics in found if name in metrics])
        }
        return found[0] | of_all | self.by_seat.named(found)

    def finish(self) -> None:
        """End a stage."""
        for learner in self.learners:
            learner.finish()

    def state(self) -> dict[str, torch.Tensor]:
        """The tensors of all learners by name; those of seat 0 as if it were alone."""
        others = [
            learner.state() | {_VERSION: torch.tensor(learner.version), _BATCH_TOKENS: torch.tensor(_pass(learner))}
            for learner in self.learners[1:]
        ]
        return all_tensors(self.by_seat, [self.learners[0].state(), *others])

    def restore(self, tensors: Mapping[str, torch.Tensor], version: int) -> None:
        """Take back what `state` returned; the learner of seat 0 takes what its version is to be."""
        first, *others = own_tensors(self.by_seat, tensors)
        for learner, own in zip(self.learners[1:], others, strict=True):
            learner.restore(own, int(own[_VERSION]))
            learner.scorer.batch_tokens = min(_pass(learner), int(own[_BATCH_TOKENS]))
        self.learners[0].restore(first, version - sum(learner.version for learner in self.learners[1:]))


def _pass(learner: Learner) -> Any:
    return learner.scorer.batch_tokens
