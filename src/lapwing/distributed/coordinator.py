"""How a session acts on several ranks: rank 0 writes, all agree, and what is sharded is saved by all."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor, Shard, zeros

from lapwing.distributed.ranks import Ranks
from lapwing.training.checkpoint import load_state, save_checkpoint

_SHARDS = "shards"


class RankCoordinator:
    """The coordinator of a session that several ranks run; all of them must see the folder of the run.

    A checkpoint is the ordinary folder. Tensors that are sharded go to `state/shards/` by torch's distributed
    checkpoint, each rank its own shard, as safetensors files whose headers say where in the whole tensor the shard
    lies, so that another number of ranks can read them. The usual format of that library has an index that is a
    pickle; this one has none.
    """

    def __init__(self, ranks: Ranks) -> None:
        """Coordinate these ranks."""
        self.ranks = ranks

    @property
    def writes(self) -> bool:
        """Whether this is rank 0."""
        return self.ranks.rank == 0

    def agreed(self, answer: Any, what: str) -> Any:
        """The answer of rank 0."""
        return self.ranks.broadcast(answer, what)

    def largest(self, number: int, what: str) -> int:
        """The largest of the ranks' numbers."""
        return self.ranks.largest(number, what)

    def save(
        self,
        target: Path,
        *,
        model: Any,
        tokenizer: Any,
        max_tokens: int,
        tensors: dict[str, torch.Tensor],
        state: dict[str, Any],
        others: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a checkpoint together; it is whole when this returns.

        Raises:
          OSError: a rank could not write its part; every rank raises it.
        """
        shards = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, DTensor)}
        scratch = target.with_name(f".{target.name}.{_SHARDS}.tmp")
        failure = ""
        try:
            if shards:
                self._save_shards(shards, scratch)
            if self.writes:
                save_checkpoint(
                    target,
                    model=model,
                    tokenizer=tokenizer,
                    max_tokens=max_tokens,
                    tensors={name: tensor for name, tensor in tensors.items() if name not in shards},
                    state={**state, "ranks": self.ranks.size},
                    others=others,
                    also=lambda folder: _move(scratch, folder / _SHARDS) if shards else None,
                )
        except OSError as error:
            failure = f"rank {self.ranks.rank}: {error}"
        failures = self.ranks.gather(failure, "whether a checkpoint was written")
        if any(failures):
            shutil.rmtree(scratch, ignore_errors=True)
            raise OSError(f"The checkpoint {target} could not be written; {'; '.join(filter(None, failures))}")

    def _save_shards(self, shards: dict[str, Any], folder: Path) -> None:
        if self.writes:
            # Of a run that died here, perhaps with more ranks. No rank writes before all have made their plans.
            shutil.rmtree(folder, ignore_errors=True)
        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        try:
            self.ranks.exchange("the shards of a checkpoint", lambda: save(shards, storage_writer=writer))
        except CheckpointException as error:
            raise OSError(str(error).strip().rpartition("\n")[2]) from error

    def load(self, checkpoint: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The tensors and the rest of the state of a checkpoint; what was sharded is sharded again."""
        tensors, state = load_state(checkpoint)
        folder = checkpoint / "state" / _SHARDS
        if not folder.is_dir():
            return tensors, state
        reader = HuggingFaceStorageReader(str(folder))
        mesh = self.ranks.mesh()
        shards: dict[str, Any] = {}
        for name, found in reader.read_metadata().state_dict_metadata.items():
            assert isinstance(found, TensorStorageMetadata)
            shards[name] = zeros(found.size, dtype=found.properties.dtype, device_mesh=mesh, placements=[Shard(0)])
        self.ranks.exchange("the shards of a checkpoint", lambda: load(shards, storage_reader=reader))
        return tensors | shards, state


def _move(source: Path, target: Path) -> None:
    source.rename(target)
