"""Alarms: what in the metrics of a run says that it goes wrong, before its result does."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lapwing.core.errors import UserError, nearest

Row = Mapping[str, Any]

_NAMES = ("gap", "nonfinite", "entropy", "length", "valid", "no_signal", "constant")

# Rows that the start of a run is averaged over, and how many mean deviations above it count as learning.
_START_ROWS = 3
_NOISES = 2.0
# Lengths that grow for long are compared with a level that remembers longer.
_LENGTH_WINDOWS = 5
_GAP_ADVICE = (
    "compare the sampler's dtype, temperature and weights with the trainer's, or raise alarms.gap if this gap is known "
    "for the two"
)


@dataclass
class _Level:
    """The running level of a metric: a mean at first, then one that forgets as 1 / window.

    Attributes:
      rows: seen so far.
      now, start, highest: of the level now, over the first rows, and at its highest.
      noise: running mean of |value − the one before|, which a trend does not raise as it would |value − level|.
      last: value.
    """

    rows: int = 0
    now: float = 0.0
    start: float = 0.0
    highest: float = -math.inf
    noise: float = 0.0
    last: float = 0.0

    def add(self, value: float, window: int) -> None:
        if self.rows:
            self.noise += (abs(value - self.last) - self.noise) / min(self.rows, window)
        self.last = value
        self.rows += 1
        share = 1.0 / min(self.rows, window)
        self.now += (value - self.now) * share
        if self.rows <= _START_ROWS:
            self.start, self.highest = self.now, -math.inf
        self.highest = max(self.highest, self.now)


@dataclass
class _Watch:
    """What is known of one alarm: rows in a row with and without its sign, and whether it was raised."""

    rows: int = 0
    calm: int = 0
    raised: bool = False
    stopped: bool = False


@dataclass
class _Memory:
    """All that `Alarms` carries from row to row."""

    levels: dict[str, _Level] = field(default_factory=dict)
    watches: dict[str, _Watch] = field(default_factory=dict)
    nonfinite: int = 0


@dataclass(frozen=True)
class AlarmSettings:
    """Limits, and what happens beyond them; see `Alarms`.

    Attributes:
      gap: largest mean |log-probability of the sampler − of the trainer|, nats, above 0.
      gap_patience: iterations in a row with a larger one after which the run ends, if `stop` names it.
      rollback_after: iterations in a row without any update, because something was not finite, after which the run goes
        back to the weights of its last checkpoint; 0 never does.
      entropy: floor of the entropy per token, nats.
      growth: factor above 1 by which replies or episodes may be longer than their running level.
      valid: share of its highest level, in (0, 1), below which the share of valid replies may not fall.
      constant: share of the steps, in (0, 1], that one action may have.
      patience: iterations in a row that a sign must last, for all but the gap and updates left out; and that it must be
        absent before its alarm is raised again.
      window: iterations that a running level remembers; there are no levels before.
      off: names of alarms that are never raised.
      stop: names of alarms that end the run.
    """

    gap: float = 0.05
    gap_patience: int = 3
    rollback_after: int = 3
    entropy: float = 0.05
    growth: float = 2.5
    valid: float = 0.5
    constant: float = 0.98
    patience: int = 10
    window: int = 20
    off: tuple[str, ...] = ()
    stop: tuple[str, ...] = ("gap",)

    def __post_init__(self) -> None:
        for name, least in (("gap", 0), ("entropy", 0), ("growth", 1), ("valid", 0), ("constant", 0)):
            if not least < getattr(self, name) < math.inf:
                raise UserError(f"alarms.{name} is a finite number above {least}, not {getattr(self, name)}.")
        if self.valid >= 1.0 or self.constant > 1.0:
            raise UserError(
                f"alarms.valid is below 1 and alarms.constant at most 1, not {self.valid} and {self.constant}."
            )
        for name, least in (("gap_patience", 1), ("patience", 1), ("window", 1), ("rollback_after", 0)):
            if getattr(self, name) < least:
                raise UserError(f"alarms.{name} is at least {least}, not {getattr(self, name)}.")
        for where, names in (("off", self.off), ("stop", self.stop)):
            for name in names:
                if name not in _NAMES:
                    raise UserError(f"alarms.{where}: there is no alarm '{name}'; {nearest(name, _NAMES)}")


class Alarms:
    """Looks at every row of metrics of a stage and says what goes wrong, once until it is over.

    gap        the sampler's log-probabilities are not the trainer's: `policy/gap` above a limit
    nonfinite  updates were left out in a row because something was not finite
    entropy    the policy became certain, and not because it knows: `policy/entropy` below a floor and a tenth of its
               highest level, without a return above that of the start
    length     replies, or without a better return episodes, are longer by a factor than their running level
    valid      replies that parse became rare
    no_signal  all groups are without spread, row after row, without a return above that of the start
    constant   one action is played all the time, without a return above that of the start

    The return is better than at the start if its running level is above the mean of the first three rows by more than
    twice its mean change from row to row. With the defaults none of 269 finished runs that learnt raises an alarm, and
    47 of 53 that collapsed do (`benchmarks/alarms.py` replays the metrics of runs).
    """

    def __init__(self, **settings: Any) -> None:
        """Begin with nothing remembered.

        Args:
          settings: those of `AlarmSettings`.

        Raises:
          UserError: a setting is impossible.
        """
        self.settings = AlarmSettings(**settings)
        self._memory = _Memory()

    def check(self, row: Row) -> list[dict[str, Any]]:
        """Look at the next row.

        Args:
          row: metrics of an iteration by name; those that are missing or not finite are passed over.

        Returns:
          What is raised now: `{"kind": "alarm", "alarm": its name, "text": a sentence, "stop": whether the run ends}`.
          An alarm that is raised already comes once more where it ends the run only now.
        """
        memory = self._memory
        if row.get("update/count", 0):
            memory.nonfinite = 0
        elif row.get("update/nonfinite", 0):
            memory.nonfinite += 1
        signs: dict[str, Callable[[Row], str | None]] = {
            "gap": self._gap,
            "nonfinite": self._nonfinite,
            "entropy": self._entropy,
            "length": self._length,
            "valid": self._valid,
            "no_signal": self._no_signal,
            "constant": self._constant,
        }
        # Against the levels before this row.
        found = {name: sign(row) for name, sign in signs.items()}
        self._add(row)
        raised = (self._raise(name, text) for name, text in found.items() if name not in self.settings.off)
        return [alarm for alarm in raised if alarm is not None]

    def _add(self, row: Row) -> None:
        for name in ("rollout/return_mean", "policy/entropy", "rollout/valid", *_LENGTHS):
            window = self.settings.window * (_LENGTH_WINDOWS if name in _LENGTHS else 1)
            if (value := _number(row, name)) is not None:
                self._memory.levels.setdefault(name, _Level()).add(value, window)

    def _raise(self, name: str, text: str | None) -> dict[str, Any] | None:
        if text is None:  # this row says nothing of it
            return None
        watch = self._memory.watches.setdefault(name, _Watch())
        at_once = name in ("gap", "nonfinite")
        if not text:
            watch.rows = 0
            watch.calm += 1
            if watch.calm >= (1 if at_once else self.settings.patience):
                watch.raised = watch.stopped = False
            return None
        watch.rows, watch.calm = watch.rows + 1, 0
        patience = 1 if at_once else self.settings.patience
        stops = name in self.settings.stop and watch.rows >= (self.settings.gap_patience if name == "gap" else patience)
        if watch.rows < patience or (watch.raised and (watch.stopped or not stops)):
            return None
        watch.raised, watch.stopped = True, stops
        return {"kind": "alarm", "alarm": name, "text": text, "stop": stops}

    def limits(self) -> dict[str, float]:
        """What the next row is held against, by metric; without alarms that are off or wait for a level to settle."""
        settings = self.settings
        found = {
            "policy/gap": ("gap", settings.gap),
            "rollout/zero_spread_groups": ("no_signal", 1.0),
            "rollout/top_action": ("constant", settings.constant),
        }
        if (level := self._level("policy/entropy")) is not None:
            found["policy/entropy"] = ("entropy", min(settings.entropy, 0.1 * level.highest))
        if (level := self._level("rollout/valid")) is not None:
            found["rollout/valid"] = ("valid", settings.valid * level.highest)
        for name in _LENGTHS:
            if (level := self._level(name)) is not None:
                found[name] = ("length", settings.growth * level.now)
        return {metric: limit for metric, (alarm, limit) in found.items() if alarm not in settings.off}

    @property
    def must_roll_back(self) -> bool:
        """Whether so many updates in a row were left out that the run goes back to its last checkpoint."""
        return 0 < self.settings.rollback_after <= self._memory.nonfinite

    def rolled_back(self) -> None:
        """The run went back: begin to count anew."""
        self._memory.nonfinite = 0

    def state(self) -> dict[str, Any]:
        """All that is remembered, as plain JSON, for an exact resume."""
        memory = self._memory
        return {
            "levels": {name: list(vars(level).values()) for name, level in memory.levels.items()},
            "watches": {name: list(vars(watch).values()) for name, watch in memory.watches.items()},
            "nonfinite": memory.nonfinite,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned; an empty one begins anew."""
        self._memory = _Memory(
            {name: _Level(*values) for name, values in state.get("levels", {}).items()},
            {name: _Watch(*values) for name, values in state.get("watches", {}).items()},
            state.get("nonfinite", 0),
        )

    def _level(self, name: str) -> _Level | None:
        """A level that has settled."""
        level = self._memory.levels.get(name)
        return level if level is not None and level.rows >= self.settings.window else None

    def _no_better(self) -> str:
        """How the return is no better than at the start; empty where it is, or nobody can tell yet."""
        level = self._level("rollout/return_mean")
        if level is None or level.now - level.start > _NOISES * level.noise:
            return ""
        return f"the return is {level.now:.3g} and was {level.start:.3g} at the start"

    def _gap(self, row: Row) -> str | None:
        gap = _number(row, "policy/gap")
        if gap is None:
            return None
        if gap <= self.settings.gap:
            return ""
        return (
            f"The sampler's log-probabilities differ from the trainer's by {gap:.3g} nats a token (the limit is "
            f"{self.settings.gap:g}): the policy that is trained is not the one that plays; {_GAP_ADVICE}."
        )

    def _nonfinite(self, row: Row) -> str | None:
        count = self._memory.nonfinite
        if not row.get("update/count", 0) and not row.get("update/nonfinite", 0):
            return None
        if count < max(self.settings.rollback_after, 1):
            return ""
        end = (
            "the run goes back to its last checkpoint"
            if self.settings.rollback_after
            else "the weights stay as they are"
        )
        return (
            f"No update could be made in {count} iterations in a row, because something was not finite; {end}. Lower "
            "optimizer.learning_rate or optimizer.clip_norm if that does not help."
        )

    def _entropy(self, row: Row) -> str | None:
        entropy, level = _number(row, "policy/entropy"), self._level("policy/entropy")
        if entropy is None:
            return None
        if level is None or entropy > min(self.settings.entropy, 0.1 * level.highest):
            return ""
        if not (why := self._no_better()):
            return ""
        return (
            f"The policy's entropy fell to {entropy:.2g} nats a token from {level.highest:.2g}, and {why}: it became "
            "certain without being good; raise the coefficient of the entropy regulariser or lower "
            "optimizer.learning_rate."
        )

    def _length(self, row: Row) -> str:
        for name, what in _LENGTHS.items():
            value, level = _number(row, name), self._level(name)
            if value is None or level is None or value <= self.settings.growth * level.now:
                continue
            # Longer episodes are what learning to survive looks like.
            why = "" if name == "rollout/tokens_per_step" else self._no_better()
            if why or name == "rollout/tokens_per_step":
                return (
                    f"{what} are {value:.3g} long, {value / level.now:.2g} times their running level of "
                    f"{level.now:.3g}{f', and {why}' if why else ''}: read some in the run's episodes; a penalty for "
                    "length, or an aggregation that does not favour long ones, holds them back."
                )
        return ""

    def _valid(self, row: Row) -> str:
        valid, level = _number(row, "rollout/valid"), self._level("rollout/valid")
        if valid is None or level is None or valid >= self.settings.valid * level.highest:
            return ""
        return (
            f"Only {valid:.0%} of the replies are legal actions, of {level.highest:.0%} before: the model loses the "
            "format; raise policy.format_penalty, lower optimizer.learning_rate, or add a divergence from the "
            "reference."
        )

    def _no_signal(self, row: Row) -> str:
        if row.get("rollout/zero_spread_groups", 0.0) < 1.0 or not (why := self._no_better()):
            return ""
        return (
            f"In {self.settings.patience} iterations in a row no group had two different returns, and {why}: there is "
            "nothing to learn from; take an easier or harder start, larger groups, or a higher temperature."
        )

    def _constant(self, row: Row) -> str | None:
        share = _number(row, "rollout/top_action")
        if share is None:
            return None
        if share < self.settings.constant or not (why := self._no_better()):
            return ""
        return (
            f"One action makes {share:.1%} of all steps, and {why}: the policy collapsed to one move; raise the "
            "coefficient of the entropy regulariser or lower optimizer.learning_rate."
        )


_LENGTHS = {"rollout/tokens_per_step": "Replies", "rollout/length": "Episodes"}


def _number(row: Row, name: str) -> float | None:
    value = row.get(name)
    return float(value) if value is not None and math.isfinite(value) else None
