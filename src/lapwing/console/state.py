"""Where a run is, from what it tells: what a display needs to know between two rows of metrics."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# How many rows speeds and the time that is left are measured over, and how many returns are drawn.
_RECENT = 20
_DRAWN = 32


class Moment(NamedTuple):
    """A row of metrics, as far as speed goes.

    Attributes:
      when: of the monotonic clock, s.
      learning: playing, credit and updating since the stage began, s.
      episodes, tokens: since the stage began.
      iterations: done in the stage.
    """

    when: float
    learning: float
    episodes: float
    tokens: float
    iterations: int


@dataclass
class RunState:
    """What is known of a run; written by the thread that trains, read by the one that draws.

    Attributes:
      title: the recipe or run.
      stage: its name; empty before the first one.
      iterations, done: of the stage.
      row: the newest row of metrics of the stage, with its newest evaluation.
      returns: mean returns of the newest iterations.
      moments: of the newest rows.
      checkpoint: the iteration of the last checkpoint and when it was written; None before the first one.
      ending: what is done after the last iteration; empty before.
      doing: tells what the session does now; None where there is none.
    """

    title: str = ""
    stage: str = ""
    iterations: int = 0
    done: int = 0
    row: dict[str, Any] = field(default_factory=dict)
    returns: tuple[float, ...] = ()
    moments: tuple[Moment, ...] = ()
    checkpoint: tuple[int, float] | None = None
    ending: str = ""
    doing: Callable[[], Any] | None = None

    def take(self, told: dict[str, Any]) -> None:
        """Learn from an event or a row of metrics."""
        event = told.get("event")
        if event is None:
            self._row(told)
        elif event == "stage":
            self.stage, self.iterations, self.done = told["stage"], told["iterations"], told.get("first", 0)
            self.row, self.returns, self.moments, self.ending = {}, (), (), ""
            self.doing = told.get("doing")
        elif event == "checkpoint":
            self.checkpoint = (told["iteration"], time.monotonic())
        elif event == "evaluation":
            self.ending = f"evaluating on {told['episodes']} test matches"

    def _row(self, row: dict[str, Any]) -> None:
        evaluated = {name: value for name, value in self.row.items() if name.startswith("evaluation/")}
        self.row = evaluated | row
        self.done = row["iteration"] + 1
        learning, episodes, tokens = (
            float(row.get(name, 0.0)) for name in ("time/learning", "rollout/episodes", "rollout/tokens")
        )
        moment = Moment(time.monotonic(), learning, episodes, tokens, self.done)
        # Tuples that are replaced, never changed: the thread that draws reads them at any moment.
        self.moments = (*self.moments, moment)[-_RECENT - 1 :]
        if "rollout/return_mean" in row:
            self.returns = (*self.returns, row["rollout/return_mean"])[-_DRAWN:]

    def speeds(self) -> tuple[float, float] | None:
        """Episodes and tokens per second of playing and learning, over the newest rows; None before the first one."""
        moments = self.moments
        if not moments:
            return None
        last = moments[-1]
        before = moments[0] if len(moments) > 1 else Moment(last.when, 0.0, 0.0, 0.0, 0)
        seconds = last.learning - before.learning
        if seconds <= 0:
            return None
        return (last.episodes - before.episodes) / seconds, (last.tokens - before.tokens) / seconds

    def seconds_left(self) -> float | None:
        """Until the stage's iterations are made, evaluations and checkpoints included; None while nothing is known."""
        moments = self.moments
        if len(moments) < 2:
            return None
        first, last = moments[0], moments[-1]
        each = (last.when - first.when) / (last.iterations - first.iterations)
        return max(0.0, each * (self.iterations - self.done) - (time.monotonic() - last.when))

    def phase(self) -> tuple[str, str]:
        """What is being done, as "playing", and what it waits for, which may be empty."""
        if self.ending:
            return self.ending, ""
        if self.doing is None:
            return "setting up" if self.title else "loading the libraries", ""
        try:
            doing = self.doing()
        except Exception:  # asked from another thread, at any moment, of whatever plays
            return "", ""
        phase = str(doing.phase)
        # What takes no time is not worth a line that comes and goes.
        return _PHASES.get(phase, phase), str(doing.waiting_for) if doing.seconds >= 1 else ""


_PHASES = {
    "set-up": "setting up",
    "play": "playing",
    "update": "updating",
    "evaluation": "evaluating in development",
    "checkpoint": "writing a checkpoint",
}
