"""Run the stages of a run into its folder: metrics, episodes, checkpoints, interruption, resume."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from lapwing.core.errors import LapwingError, NonFiniteError
from lapwing.core.protocols import Coordinator, Learner
from lapwing.training.checkpoint import Alone, by_age, delete, is_whole
from lapwing.training.clock import Clock
from lapwing.training.credited import CreditedRollout
from lapwing.training.heartbeat import Doing, Heartbeat
from lapwing.training.interruption import Interrupted, Interruption
from lapwing.training.loop import iterate
from lapwing.training.resumption import Position
from lapwing.training.run_folder import RunFolder
from lapwing.training.run_state import MOST_ROLLBACKS, RunState, name_of, restore_critics
from lapwing.training.stage_memory import StageMemory, put_back, remembered
from lapwing.training.stages import Stage

_RECORDED_EPISODES = 32
_LEARNING = ("time/play", "time/credit", "time/update")
_NOTHING: Mapping[str, torch.Tensor] = MappingProxyType({})


class _Stop(Exception):
    """Raised at a safe point inside an iteration, where a signal came."""


@dataclass
class Session:
    """One run: its folder, its stages and the model that they train in place.

    Attributes:
      folder: where everything is written.
      stages: in order; the last is "main", the others are warm starts.
      model, tokenizer: of transformers.
      max_tokens: the reply budget, for the exported generation settings.
      measure: evaluates the current weights on development matches, for a stage's metrics; it is given a function to
        call now and then, which may raise.
      watch: is called with every row of metrics, and with `{"event": …}` rows; some come from another thread. That of
        a stage which begins has `doing`, a function that tells what is done at any later moment.
      warm_start_cache: where the weights after the warm-start stages are kept; None keeps none.
      coordinator: who writes, and what is agreed, where several processes run this session.
      others: models that learn beside it, by the name of the folder of each in a checkpoint.
    """

    folder: RunFolder
    stages: Sequence[Stage]
    model: Any
    tokenizer: Any
    max_tokens: int
    measure: Callable[[Callable[[], None]], dict[str, float]]
    watch: Callable[[dict[str, Any]], None]
    warm_start_cache: Path | None = None
    coordinator: Coordinator = field(default_factory=Alone)
    others: Mapping[str, Any] = field(default_factory=dict)
    _interruption: Interruption = field(default_factory=Interruption)
    _heartbeat: Heartbeat | None = None
    _now: Stage | None = None

    def __post_init__(self) -> None:
        """Know where the state is kept."""
        self._state = RunState(self.folder, self.coordinator, self.model, self.tokenizer, self.max_tokens, self.others)

    def run(self, position: Position | None = None) -> None:
        """Run every stage, from the beginning or from a position.

        Raises:
          Interrupted: a signal came; the state is saved and a run from the next position goes on.
          LapwingError: the run cannot go on; its checkpoints are kept.
        """
        at = position or Position()
        last = len(self.stages) - 1
        with self._running():
            if at.stage < last:
                started = time.monotonic()
                cached = self._warm_start(at)
                manifest = self.folder.read_manifest()
                manifest["warm_start_cached"] = cached
                manifest["seconds"]["warm_start"] = time.monotonic() - started
                self.folder.write_manifest(manifest)
                at = Position(stage=last)
            self._main(at)
            self._check_complete()

    def warm_start(self) -> bool:
        """Run the stages before the main one alone, or take their weights from the cache; True if they were there."""
        with self._running():
            return self._warm_start(Position())

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        self._interruption = Interruption()
        self._heartbeat = Heartbeat(self._say_waiting, lambda: str(self.doing()))
        try:
            with self._interruption, self._heartbeat:
                yield
        finally:
            for stage in self.stages:
                stage.close()

    def _say_waiting(self, text: str) -> None:
        self.watch({"event": "waiting", "text": text})

    def doing(self) -> Doing:
        """What is being done and waited for; may be asked from another thread."""
        stage = self._now
        if stage is None:
            return Doing("", "set-up", 0.0)
        waiting = getattr(stage.collector, "waiting_for", None)
        waits = waiting() if stage.activity.phase == "play" and waiting is not None else ""
        return Doing(stage.name, stage.activity.phase, stage.activity.seconds, waits)

    def _begin(self, stage: Stage, first: int) -> None:
        whole = {"iterations": stage.iterations, "first": first}
        self._tell({"event": "stage", "stage": stage.name, **whole, "doing": self.doing})

    def _save(self, stage: Stage, learner: Learner, done: int) -> None:
        self._state.save(stage, learner, done)
        self._tell({"event": "checkpoint", "stage": stage.name, "iteration": done})

    def _tell(self, row: dict[str, Any]) -> None:
        if self._heartbeat is not None:
            self._heartbeat.beat()
        self.watch(row)

    # Warm starts

    def _warm_start(self, at: Position) -> bool:
        if len(self.stages) == 1:
            return False
        cache = self.warm_start_cache
        if cache is not None and at.checkpoint is None and self._is_whole(cache):
            self._state.load_weights(cache)
            for row in self.coordinator.load(cache)[1]["rows"]:
                self.folder.append_metrics(row)
            self._tell({"event": "cached", "stage": self.stages[0].name})
            return True
        for index in range(at.stage, len(self.stages) - 1):
            self._clone(self.stages[index], at.checkpoint if index == at.stage else None)
        # A cache that cannot be written, or that another run has just written, costs time and nothing else.
        with contextlib.suppress(OSError):
            if cache is not None and not self._is_whole(cache):
                names = {stage.name for stage in self.stages[:-1]}
                rows = [row for row in self.folder.read_metrics() if row["stage"] in names]
                self._state.write(
                    cache, tensors={}, state={"rows": self.coordinator.agreed(rows, "the warm start's log")}
                )
        return False

    def _clone(self, stage: Stage, checkpoint: Path | None) -> None:
        self._state.begin()
        learner = stage.make_learner()
        first = 0 if checkpoint is None else self._state.restore(stage, learner, checkpoint)[0]
        self._begin(stage, first)
        stage.load(learner.version)
        for row in self._iterations(stage, learner, first):
            done = int(row["iteration"]) + 1
            self._log(stage, row)
            signal_number = self._signal()
            if done < stage.iterations and (done % stage.checkpoint_every == 0 or signal_number):
                self._save(stage, learner, done)
            self._stop_if(signal_number, f"Saved after iteration {done} of the stage {stage.name}.")
        learner.finish()
        stage.load(learner.version)
        stage.close()  # the next one may need what its actors hold

    def _is_whole(self, cache: Path) -> bool:
        return self.coordinator.agreed(self.coordinator.writes and is_whole(cache), "whether the warm start is kept")

    # The main stage

    def _main(self, at: Position) -> None:
        stage = self.stages[-1]
        learner = stage.make_learner()
        self._state.begin()
        first, tensors, unfinished = 0, _NOTHING, None
        if at.checkpoint is not None:
            first, tensors, unfinished = self._state.restore(stage, learner, at.checkpoint)
        self._begin(stage, first)
        stage.load(learner.version)
        saving = Clock(stage.activity.enter)
        if at.checkpoint is None:
            with saving("checkpoint"):
                self._save(stage, learner, 0)
            self._forget_warm_starts()
        # Checkpoint 0 is never deleted, so that a resumed run has the same reference.
        stage.annotators = stage.make_annotators(self.folder.path / "checkpoints" / "0" / "model")
        restore_critics(stage, tensors)
        if unfinished is not None:
            saving = self._conclude(stage, learner, unfinished, Clock(stage.activity.enter))
        newest: list[CreditedRollout] = []
        for row in self._iterations(stage, learner, first, newest):
            done = int(row["iteration"]) + 1
            if done == stage.iterations:
                learner.finish()
                stage.load(learner.version)
            if self._is_evaluated(stage, done):
                # Before the evaluation, which a signal may cut short.
                self.folder.write_episodes(f"main-{done:06d}", *newest[-1].first(_RECORDED_EPISODES))
            if row["update/nonfinite"]:
                self.folder.write_batch(f"main-{done:06d}", newest[-1].batch)
            saving = self._conclude(stage, learner, row, saving)

    def _is_evaluated(self, stage: Stage, done: int) -> bool:
        return bool(stage.evaluate_every) and (done % stage.evaluate_every == 0 or done == stage.iterations)

    def _conclude(self, stage: Stage, learner: Learner, row: dict[str, Any], saving: Clock) -> Clock:
        """What follows an update: evaluation, log, alarms, checkpoint; returns what the checkpoint took."""
        done = int(row["iteration"]) + 1
        is_last = done == stage.iterations
        clock = Clock(stage.activity.enter)
        if self._is_evaluated(stage, done):
            try:
                with clock("evaluation"):
                    row |= self.measure(self._safe_point)
            except _Stop:
                # The update is made and must not be made again: its row waits for its evaluation.
                self._state.save(stage, learner, done, row=row | saving.seconds)
                self._stop_if(self._signal(), f"Saved before the evaluation of iteration {done} of {stage.iterations}.")
        # A row is logged before its checkpoint, so that no checkpoint is ahead of the log.
        row = self._log(stage, row | clock.seconds | saving.seconds)
        reasons = self._alarmed(stage, learner, row)
        saving = Clock(stage.activity.enter)
        signal_number = self._signal()
        if done % stage.checkpoint_every == 0 or is_last or signal_number or reasons:
            with saving("checkpoint"):
                self._save(stage, learner, done)
        # Also after the last iteration: a resume goes on with the evaluation.
        self._stop_if(signal_number, f"Saved after iteration {done} of {stage.iterations}.")
        if reasons:
            self._write_status("stopped")
            raise LapwingError(
                f"Stopped after iteration {done} of {stage.iterations}: {' '.join(reasons)} The state is saved; "
                f"to go on all the same: lapwing resume {self.folder.path}"
            )
        return saving

    def _alarmed(self, stage: Stage, learner: Learner, row: dict[str, Any]) -> list[str]:
        """Log what the alarms say of a row, roll back if they ask for it; why the run is to stop."""
        alarms = stage.alarms.check(row)
        self._log_faults(stage, row, alarms)
        if row["update/count"]:
            self._state.rollbacks = 0
        reasons = [alarm["text"] for alarm in alarms if alarm["stop"]]
        if stage.alarms.must_roll_back:
            text = self._state.roll_back(stage, learner, int(row["iteration"]) + 1)
            self._log_faults(stage, row, [{"kind": "rollback", "text": text}])
            if self._state.rollbacks >= MOST_ROLLBACKS:
                reasons.append(
                    f"Weights were put back {self._state.rollbacks} times and still no update was finite; lower "
                    "optimizer.learning_rate, or look at the batches in the folder faults."
                )
        return reasons

    def _check_complete(self) -> None:
        """A run that ends without having made its iterations must not look finished."""
        if not self.coordinator.writes:
            return
        stage = self.stages[-1]
        logged = [int(row["iteration"]) for row in self.folder.read_metrics() if row["stage"] == stage.name]
        if logged != list(range(stage.iterations)):
            raise LapwingError(
                f"The log has {len(logged)} iterations of the stage {stage.name}, and the recipe {stage.iterations}; "
                "one was lost or made twice. Please report this as an error of Lapwing."
            )

    # What both kinds of stages do

    def _iterations(
        self, stage: Stage, learner: Learner, first: int, newest: list[CreditedRollout] | None = None
    ) -> Iterator[dict[str, Any]]:
        """The rows of a stage; where a signal stops an iteration on its way, that one is played again later."""
        kept = [] if newest is None else newest

        def keep(rollout: CreditedRollout) -> None:
            kept[:] = [rollout]

        def in_update() -> None:
            changed = learner.version != version or bool(stage.critics)
            if self._interruption.is_overdue or not changed:
                self._safe_point()

        self._now = stage
        if hasattr(stage.collector, "safe_point"):
            stage.collector.safe_point = self._safe_point  # pyright: ignore[reportAttributeAccessIssue]
        learner.safe_point = in_update
        rows, iteration = iterate(stage, learner, first, keep), first
        while iteration < stage.iterations:
            version, before = learner.version, remembered(stage)
            try:
                row = next(rows)
            except _Stop:
                self._abandon(stage, learner, iteration, before, learner.version == version and not stage.critics)
                raise
            except NonFiniteError as error:
                self._recover(stage, learner, iteration, error)
                put_back(stage, before)
                rows = iterate(stage, learner, iteration, keep)
                continue
            yield row
            iteration += 1

    def _recover(self, stage: Stage, learner: Learner, iteration: int, error: NonFiniteError) -> None:
        """The weights gave numbers that are not finite: play the iteration with those of the last checkpoint.

        Raises:
          NonFiniteError: that was tried before, or other processes take part and know nothing of it.
        """
        if self._state.rollbacks >= MOST_ROLLBACKS or not getattr(self.coordinator, "stops_anywhere", False):
            raise error
        row = {"iteration": iteration}
        self._log_faults(stage, row, [{"kind": "sampling", "text": str(error)}])
        stage.close()
        text = self._state.roll_back(stage, learner, iteration)
        self._log_faults(stage, row, [{"kind": "rollback", "text": text}])

    def _abandon(self, stage: Stage, learner: Learner, iteration: int, before: StageMemory, is_unchanged: bool) -> None:
        """End in the middle of an iteration; what it began with is saved unless weights have changed since."""
        saved = self.folder.path / "checkpoints" / name_of(stage, iteration)
        where = f"iteration {iteration + 1} of {stage.iterations} of the stage {stage.name}"
        if not is_unchanged:
            text = f"The update of {where} did not end within the time there was; the last checkpoint is what is kept."
        else:
            text = f"Saved as it was before {where}."
            if iteration and not is_whole(saved):
                self._state.save(stage, learner, iteration, before=before)
        self._stop_if(self._signal(), text)

    def _safe_point(self) -> None:
        # Several processes must stop at the same point; they agree on one after the iteration.
        if self._interruption.signal_number and getattr(self.coordinator, "stops_anywhere", False):
            raise _Stop

    def _signal(self) -> int:
        """The signal that any process received, so that all stop at the same point; 0 for none."""
        return self.coordinator.largest(self._interruption.signal_number, "whether to stop")

    def _log(self, stage: Stage, row: dict[str, Any]) -> dict[str, Any]:
        row["time/learning"] = self._state.add("seconds", sum(row[name] for name in _LEARNING))
        episodes = row.pop("rollout/new_episodes")
        row["rollout/episodes"] = self._state.add("episodes", episodes)
        row["rollout/steps"] = self._state.add("steps", row.pop("rollout/new_steps"))
        row["rollout/tokens"] = self._state.add("tokens", row.pop("rollout/new_tokens"))
        faults = row.pop("faults", [])
        self.folder.append_metrics(row)
        self._tell(row)
        self._log_faults(stage, row, faults)
        return row

    def _log_faults(self, stage: Stage, row: Mapping[str, Any], faults: Sequence[dict[str, Any]]) -> None:
        rows = [{"stage": stage.name, "iteration": row["iteration"], **fault} for fault in faults]
        self.folder.append_faults(rows)
        for fault in rows:
            self._tell({"event": "fault", **fault})

    def _forget_warm_starts(self) -> None:
        """Checkpoints of warm starts have done their service once the main stage has its first."""
        if self.coordinator.writes:
            for stage in self.stages[:-1]:
                for path in by_age(self.folder.path, stage.name):
                    delete(path)

    def _stop_if(self, signal_number: int, saved: str) -> None:
        if signal_number:
            self._write_status("interrupted")
            raise Interrupted(signal_number, run=self.folder.path, saved=saved)

    def _write_status(self, status: str) -> None:
        self.folder.write_manifest(self.folder.read_manifest() | {"status": status})
