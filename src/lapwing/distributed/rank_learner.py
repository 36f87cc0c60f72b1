"""A learner whose updates several ranks make together."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import LapwingError
from lapwing.distributed.ranks import Ranks
from lapwing.distributed.sharded_model import ShardedModel
from lapwing.training.learner import Learner
from lapwing.training.master_weights import Masters


class RankLearner(Learner):
    """A `Learner` on several ranks, with whole weights on each of them or with shards."""

    def __init__(self, model: Any, *, ranks: Ranks, is_sharded: bool, **settings: Any) -> None:
        """Make the learner.

        Args:
          model: a causal language model, with the same weights on every rank; it plays, and is changed in place.
          ranks: the processes.
          is_sharded: spread what is trained over the ranks.
          settings: of `Learner`.
        """
        self.company = ranks
        self.shards = ShardedModel(model, ranks) if is_sharded else None
        trained = model if self.shards is None else self.shards.model
        super().__init__(trained, ranks=ranks, **settings)
        self.scorer.passes = self.shards

    def _make_masters(self) -> Masters:
        return super()._make_masters() if self.shards is None else self.shards

    def update(
        self,
        batch: EpisodeBatch,
        advantage: np.ndarray,
        weight: np.ndarray,
        *,
        progress: float = 0.0,
        given: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, float]:
        """As `Learner`, with the credit of rank 0.

        Critics and reference models run on every rank, and not to the same bit on every device: ranks that select
        other episodes would wait for each other for ever.
        """
        lesson = (advantage, weight, dict(given or {}))
        advantage, weight, given = self.company.broadcast(lesson, "the credit of the episodes")
        metrics = super().update(batch, advantage, weight, progress=progress, given=given)
        self._refresh()
        return metrics

    def finish(self) -> None:
        """As `Learner`."""
        super().finish()
        self._refresh()

    def _refresh(self) -> None:
        if self.shards is not None:
            self.shards.refresh()

    def state(self) -> dict[str, torch.Tensor]:
        """As `Learner`; of what is sharded, each rank has its part.

        Raises:
          LapwingError: the ranks have drifted apart.
        """
        tensors = super().state()
        if self.shards is None:
            self._check_equal()
            return tensors
        whole = self.objective.state()
        return whole | {
            name: self.shards.as_shard(int(name.split(".")[1]), tensor)
            for name, tensor in tensors.items()
            if name not in whole
        }

    def restore(self, tensors: Mapping[str, torch.Tensor], version: int) -> None:
        """As `Learner`."""
        own = {name: t.to_local() if isinstance(t, DTensor) else t for name, t in tensors.items()}
        super().restore(own, version)
        self._refresh()

    def _check_equal(self) -> None:
        sums = self.company.gather(_checksum(self.parameters), "whether all ranks have the same weights")
        if len(set(sums)) > 1:
            odd = next(rank for rank, found in enumerate(sums) if found != sums[0])
            raise LapwingError(
                f"The weights of rank {odd} are no longer those of rank 0, so that the run cannot go on; resume it "
                "from its last checkpoint, and report this with the versions in manifest.json."
            )


def _checksum(parameters: list[torch.nn.Parameter]) -> tuple[int, ...]:
    """A sum of the bits of every parameter."""
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tuple(int(p.detach().view(whole[p.element_size()]).sum(dtype=torch.int64)) for p in parameters)
