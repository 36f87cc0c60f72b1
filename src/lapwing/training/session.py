"""Run the stages of a run into its folder: metrics, episodes, checkpoints, interruption, resume."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from lapwing.core.errors import LapwingError
from lapwing.core.protocols import Coordinator
from lapwing.models import lora
from lapwing.models.pretrained import load_in_place
from lapwing.training.checkpoint import Alone, checkpoints, is_whole, prune
from lapwing.training.clock import Clock
from lapwing.training.credited import CreditedRollout
from lapwing.training.interruption import Interrupted, Interruption
from lapwing.training.learner import Learner
from lapwing.training.loop import iterate
from lapwing.training.run_folder import RunFolder
from lapwing.training.stages import Stage

_RECORDED_EPISODES = 32
_KEPT_CHECKPOINTS = 2
_LEARNING = ("time/play", "time/credit", "time/update")


@dataclass
class Session:
    """One run: its folder, its stages and the model that they train in place.

    Attributes:
      folder: where everything is written.
      stages: in order; the last is "main", the others are warm starts.
      model, tokenizer: of transformers.
      max_tokens: the reply budget, for the exported generation settings.
      measure: evaluates the current weights on development matches, for a stage's metrics.
      watch: is called with every row of metrics, and with `{"event": …}` rows.
      warm_start_cache: where the weights after the warm-start stages are kept; None keeps none.
      coordinator: who writes, and what is agreed, where several processes run this session.
    """

    folder: RunFolder
    stages: Sequence[Stage]
    model: Any
    tokenizer: Any
    max_tokens: int
    measure: Callable[[], dict[str, float]]
    watch: Callable[[dict[str, Any]], None]
    warm_start_cache: Path | None = None
    coordinator: Coordinator = field(default_factory=Alone)
    _totals: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Run every stage from the beginning.

        Raises:
          Interrupted: a signal came; the state is saved and `resume` goes on.
        """
        with Interruption() as interruption, self._closing_stages():
            started = time.monotonic()
            cached = self._warm_start(interruption)
            manifest = self.folder.read_manifest()
            manifest["warm_start_cached"] = cached
            manifest["seconds"]["warm_start"] = time.monotonic() - started
            self.folder.write_manifest(manifest)
            self._totals = {}
            self._main(self.stages[-1], self.stages[-1].make_learner(), 0, interruption)

    def warm_start(self) -> bool:
        """Run the stages before the main one alone, or take their weights from the cache; True if they were there."""
        with Interruption() as interruption, self._closing_stages():
            return self._warm_start(interruption)

    def resume(self) -> int:
        """Go on from the newest checkpoint that is whole, or from the beginning if there is none.

        Returns:
          The iteration of the main stage that was resumed at.
        """
        newest = self._newest_checkpoint()
        if newest is None:
            self.folder.cut_metrics([])
            self.run()
            return 0
        tensors, state = self.coordinator.load(newest)
        _load_weights(self.model, newest / "model")
        stage = self.stages[-1]
        learner = stage.make_learner()
        learner.restore(tensors, int(state["learner_version"]))
        stage.sampler.restore(state["sampler"])
        stage.load(learner.version)
        first = int(state["iteration"])
        rows = self.folder.read_metrics()
        self.folder.cut_metrics(r for r in rows if r["stage"] != stage.name or r["iteration"] < first)
        self._totals = dict(state["totals"])
        with Interruption() as interruption, self._closing_stages():
            self._main(stage, learner, first, interruption, tensors)
        return first

    def _newest_checkpoint(self) -> Path | None:
        found = checkpoints(self.folder.path) if self.coordinator.writes else []
        return self.coordinator.agreed(found[-1] if found else None, "the checkpoint to go on from")

    def _warm_start(self, interruption: Interruption) -> bool:
        if len(self.stages) == 1:
            return False
        cache = self.warm_start_cache
        if cache is not None and self._is_whole(cache):
            _load_weights(self.model, cache / "model")
            for row in self.coordinator.load(cache)[1]["rows"]:
                self.folder.append_metrics(row)
            self.watch({"event": "cached", "stage": self.stages[0].name})
            return True
        rows: list[dict[str, Any]] = []
        for stage in self.stages[:-1]:
            self._totals = {}
            self.watch({"event": "stage", "stage": stage.name, "iterations": stage.iterations})
            learner = stage.make_learner()
            stage.load(0)
            for row in iterate(stage, learner, 0, _ignore):
                rows.append(self._log(row))
                self._stop_if(self._signal(interruption))
            learner.finish()
            stage.load(learner.version)
            stage.close()  # the next one may need what its actors hold
        # A cache that cannot be written, or that another run has just written, costs time and nothing else.
        with contextlib.suppress(OSError):
            if cache is not None and not self._is_whole(cache):
                self.coordinator.save(
                    cache,
                    model=self.model,
                    tokenizer=self.tokenizer,
                    max_tokens=self.max_tokens,
                    tensors={},
                    state={"rows": rows},
                )
        return False

    @contextlib.contextmanager
    def _closing_stages(self) -> Iterator[None]:
        try:
            yield
        finally:
            for stage in self.stages:
                stage.close()

    def _is_whole(self, cache: Path) -> bool:
        return self.coordinator.agreed(self.coordinator.writes and is_whole(cache), "whether the warm start is kept")

    def _main(
        self,
        stage: Stage,
        learner: Learner,
        first: int,
        interruption: Interruption,
        tensors: Mapping[str, torch.Tensor] = MappingProxyType({}),
    ) -> None:
        self.watch({"event": "stage", "stage": stage.name, "iterations": stage.iterations, "first": first})
        stage.load(learner.version)
        saving = Clock()
        if first == 0:
            with saving("checkpoint"):
                self._save(stage, learner, 0)
        # Checkpoint 0 is never deleted, so that a resumed run has the same reference.
        stage.annotators = stage.make_annotators(self.folder.path / "checkpoints" / "0" / "model")
        if first > 0:
            for number, critic in enumerate(stage.critics):
                prefix = f"critic.{number}."
                critic.restore({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
        newest: list[CreditedRollout] = []

        def keep(rollout: CreditedRollout) -> None:
            newest[:] = [rollout]

        for row in iterate(stage, learner, first, keep):
            done = int(row["iteration"]) + 1
            is_last = done == stage.iterations
            if is_last:
                learner.finish()
                stage.load(learner.version)
            clock = Clock()
            if stage.evaluate_every and (done % stage.evaluate_every == 0 or is_last):
                with clock("evaluation"):
                    row |= self.measure()
                self.folder.write_episodes(f"main-{done:06d}", *newest[-1].first(_RECORDED_EPISODES))
            # A row is logged before its checkpoint, so that no checkpoint is ahead of the log.
            row = self._log(row | clock.seconds | saving.seconds)
            saving = Clock()
            signal_number = self._signal(interruption)
            if done % stage.checkpoint_every == 0 or is_last or signal_number:
                with saving("checkpoint"):
                    self._save(stage, learner, done)
            # Also after the last iteration: a resume goes on with the evaluation.
            self._stop_if(signal_number)

    def _signal(self, interruption: Interruption) -> int:
        """The signal that any process received, so that all stop at the same point; 0 for none."""
        return self.coordinator.largest(interruption.signal_number, "whether to stop")

    def _log(self, row: dict[str, Any]) -> dict[str, Any]:
        row["time/learning"] = self._add("seconds", sum(row[name] for name in _LEARNING))
        episodes = row.pop("rollout/new_episodes")
        row["rollout/episodes"] = self._add("episodes", episodes)
        row["rollout/steps"] = self._add("steps", row.pop("rollout/new_steps"))
        row["rollout/tokens"] = self._add("tokens", row.pop("rollout/new_tokens"))
        self.folder.append_metrics(row)
        self.watch(row)
        return row

    def _add(self, name: str, amount: float) -> float:
        self._totals[name] = self._totals.get(name, 0.0) + amount
        return self._totals[name]

    def _save(self, stage: Stage, learner: Learner, done: int) -> None:
        self.coordinator.save(
            self.folder.path / "checkpoints" / str(done),
            model=self.model,
            tokenizer=self.tokenizer,
            max_tokens=self.max_tokens,
            tensors={
                **learner.state(),
                **{f"critic.{i}.{n}": t for i, critic in enumerate(stage.critics) for n, t in critic.state().items()},
            },
            state={
                "stage": stage.name,
                "iteration": done,
                "learner_version": learner.version,
                "sampler": stage.sampler.state(),
                "totals": self._totals,
            },
        )
        if self.coordinator.writes:
            prune(self.folder.path, _KEPT_CHECKPOINTS)

    def _stop_if(self, signal_number: int) -> None:
        if signal_number:
            manifest = self.folder.read_manifest()
            self.folder.write_manifest(manifest | {"status": "interrupted"})
            raise Interrupted(signal_number)


def _ignore(rollout: CreditedRollout) -> None:
    pass


def _load_weights(model: torch.nn.Module, folder: Path) -> None:
    if lora.has_adapter(model) != lora.is_adapter_folder(folder):
        kind = "an adapter" if lora.is_adapter_folder(folder) else "a whole model"
        raise LapwingError(f"The weights in {folder} do not fit the model: they are those of {kind}.")
    if lora.has_adapter(model):
        lora.load_adapter(model, folder)
        return
    load_in_place(model, folder)
