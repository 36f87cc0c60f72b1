"""The state of a run between two iterations: what a checkpoint holds, and how it is taken back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lapwing.core.errors import LapwingError
from lapwing.core.protocols import Coordinator, Learner
from lapwing.models import lora
from lapwing.models.pretrained import load_in_place
from lapwing.training.checkpoint import by_age, delete, is_whole, prune
from lapwing.training.run_folder import RunFolder, finite
from lapwing.training.stage_memory import StageMemory, as_tensors, from_checkpoint, put_back, remembered
from lapwing.training.stages import Stage

_KEPT_CHECKPOINTS = 2
# Put back so often without a single finite update in between, a run ends.
MOST_ROLLBACKS = 3


@dataclass
class RunState:
    """Writes and reads the checkpoints of a session.

    Randomness needs no saving: every stream is keyed by names (seed, iteration, group, …) and none by call order.

    Attributes:
      folder, coordinator, model, tokenizer, max_tokens, others: of the session.
      totals: of the stage so far.
      rollbacks: since the last finite update.
    """

    folder: RunFolder
    coordinator: Coordinator
    model: Any
    tokenizer: Any
    max_tokens: int
    others: Mapping[str, Any] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)
    rollbacks: int = 0

    def begin(self) -> None:
        """A stage begins."""
        self.totals, self.rollbacks = {}, 0

    def add(self, name: str, amount: float) -> float:
        """Add to a total and return it."""
        self.totals[name] = self.totals.get(name, 0.0) + amount
        return self.totals[name]

    def save(
        self,
        stage: Stage,
        learner: Learner,
        done: int,
        *,
        before: StageMemory | None = None,
        row: dict[str, Any] | None = None,
    ) -> None:
        """Write a checkpoint, and delete those that it makes needless.

        Args:
          stage, learner: whose state.
          done: iterations that were made.
          before: what the stage remembered, where that is not what it remembers now.
          row: of the last iteration, where its evaluation is still to come and it is not logged.

        Raises:
          LapwingError: it could not be written; earlier ones are as they were.
        """
        self.folder.sync_logs()
        memory = remembered(stage) if before is None else before
        critics = {f"critic.{i}.{n}": t for i, critic in enumerate(stage.critics) for n, t in critic.state().items()}
        target = self.folder.path / "checkpoints" / name_of(stage, done)
        try:
            self.write(
                target,
                tensors={**learner.state(), **critics, **as_tensors(memory)},
                state={
                    "stage": stage.name,
                    "iteration": done,
                    "learner_version": learner.version,
                    "sampler": memory.sampler,
                    "totals": self.totals,
                    "alarms": stage.alarms.state(),
                    "rollbacks": self.rollbacks,
                    "batch_tokens": learner.scorer.batch_tokens,
                    "row": None if row is None else finite(row),
                },
            )
        except OSError as error:
            raise LapwingError(
                f"The checkpoint {target} could not be written: {error}; earlier ones are as they were. Make room, "
                f"then go on: lapwing resume {self.folder.path}"
            ) from error
        if not self.coordinator.writes:
            return
        if stage.name == "main":
            prune(self.folder.path, stage.checkpoints_kept, every=stage.checkpoint_every)
            return
        for older in by_age(self.folder.path, stage.name)[:-_KEPT_CHECKPOINTS]:
            delete(older)

    def write(self, target: Path, *, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Write a folder of weights and state.

        Raises:
          OSError: it could not be written.
        """
        self.coordinator.save(
            target,
            model=self.model,
            tokenizer=self.tokenizer,
            max_tokens=self.max_tokens,
            tensors=tensors,
            state=state,
            others=self.others,
        )

    def load_weights(self, folder: Path) -> None:
        """Load the weights that `write` wrote, in place."""
        for name, model in {"model": self.model, **self.others}.items():
            load_weights(model, folder / name)

    def restore(
        self, stage: Stage, learner: Learner, checkpoint: Path
    ) -> tuple[int, Mapping[str, torch.Tensor], dict[str, Any] | None]:
        """Take back what `save` wrote; the critics are restored once there are some.

        Returns:
          The iteration to go on with, all tensors, and the row that waits for its evaluation, if one does.
        """
        tensors, state = self.coordinator.load(checkpoint)
        self.load_weights(checkpoint)
        learner.restore(tensors, int(state["learner_version"]))
        if state["batch_tokens"] is not None:
            # It may have been made smaller where memory ran out.
            learner.scorer.batch_tokens = min(learner.scorer.batch_tokens, int(state["batch_tokens"]))
        put_back(stage, from_checkpoint(stage, state["sampler"], tensors))
        stage.alarms.restore(state["alarms"])
        self.totals, self.rollbacks = dict(state["totals"]), int(state["rollbacks"])
        return int(state["iteration"]), tensors, state["row"]

    def roll_back(self, stage: Stage, learner: Learner, done: int) -> str:
        """Put weights and moments back to those of the last regular checkpoint; play goes on with what comes next.

        Args:
          stage, learner: whose state.
          done: iterations that were made.

        Returns:
          What was done, in words.

        Raises:
          LapwingError: that checkpoint is not whole.
        """
        # Not one that a signal made: a run that was never stopped has none.
        path = (
            self.folder.path / "checkpoints" / name_of(stage, done // stage.checkpoint_every * stage.checkpoint_every)
        )
        if not self.coordinator.agreed(self.coordinator.writes and is_whole(path), "whether a checkpoint is whole"):
            raise LapwingError(f"Updates are not finite, and {path}, to which the run would roll back, is not whole.")
        tensors, _ = self.coordinator.load(path)
        self.load_weights(path)
        learner.restore(tensors, learner.version + 1)
        restore_critics(stage, tensors)
        stage.load(learner.version)
        stage.alarms.rolled_back()
        self.rollbacks += 1
        return f"weights and moments were put back to those of checkpoint {path.name}"


def name_of(stage: Stage, done: int) -> str:
    """The name of a checkpoint: the number of iterations, with the stage before it where that is no main one."""
    return str(done) if stage.name == "main" else f"{stage.name}-{done}"


def restore_critics(stage: Stage, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give the critics of a stage back what a checkpoint holds of them; number 0 is older than they are."""
    for number, critic in enumerate(stage.critics):
        prefix = f"critic.{number}."
        if own := {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}:
            critic.restore(own)


def load_weights(model: torch.nn.Module, folder: Path) -> None:
    """Load the weights of a checkpoint into a model in place.

    Raises:
      LapwingError: they do not fit.
    """
    if lora.has_adapter(model) != lora.is_adapter_folder(folder):
        kind = "an adapter" if lora.is_adapter_folder(folder) else "a whole model"
        raise LapwingError(f"The weights in {folder} do not fit the model: they are those of {kind}.")
    if lora.has_adapter(model):
        lora.load_adapter(model, folder)
        return
    load_in_place(model, folder)
