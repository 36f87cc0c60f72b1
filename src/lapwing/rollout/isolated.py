"""The collector whose games run in worker processes."""

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from lapwing.core.errors import UserError
from lapwing.core.rollout import Rollout
from lapwing.core.types import Episode, Match
from lapwing.policies.past_versions import PastVersions
from lapwing.rollout.collector import LocalCollector
from lapwing.rollout.workers import WorkerLimits, Workers


class IsolatedCollector:
    """Plays with the policy in this process and the games in others, so that no game can hang, crash or fill it.

    The episodes are those of a `LocalCollector` that plays one by one, bit for bit: the policy is asked for the same
    batches in the same order, whatever happens to workers meanwhile. What is computed from the game itself, as by
    heuristics, teachers and exact annotators, is still computed in this process.

    A game must be importable in a fresh interpreter, and its settings, states, views and actions must be data that can
    be pickled. Games that are not restorable are played again from their start when their worker is lost.
    """

    def __init__(
        self,
        here: LocalCollector | None,
        *,
        workers: int = 2,
        step_seconds: float = 60.0,
        start_seconds: float = 60.0,
        memory_mb: float | None = 2048.0,
        max_deaths: int = 20,
        death_minutes: float = 10.0,
    ) -> None:
        """Make the collector; processes are started when play asks for them.

        Args:
          here: plays the same in this process, and from now on steps its games elsewhere; None to try the settings.
          workers: processes that step games.
          step_seconds: a game that needs longer for one call is killed with its process.
          start_seconds: the same for a process that starts, which imports the game.
          memory_mb: a worker that holds more than so many MiB between two steps is replaced; a single step that takes
            twice as many more fails. None sets no limit.
          max_deaths: workers that may be lost within `death_minutes`; one more ends the run.
          death_minutes: see there.

        Raises:
          UserError: a setting is impossible, or this system cannot fork.
        """
        _check(workers, max_deaths, memory_mb, step_seconds, start_seconds, death_minutes)
        self._workers = Workers(
            workers, WorkerLimits(step_seconds, start_seconds, memory_mb, max_deaths, death_minutes)
        )
        if here is None:  # only the settings are looked at
            return
        here.arena = self._workers
        self._here = here
        self.policy = here.policy
        self.invalid = here.invalid
        self.ledger = here.ledger

    def __enter__(self) -> "IsolatedCollector":
        """Nothing starts before it is needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """As `close`."""
        self.close()

    @property
    def past(self) -> PastVersions | None:
        """The pool of past versions of the policy, where seats play with one."""
        return self._here.past

    @property
    def dropped(self) -> int:
        """Matches of the last play that missed the deadline."""
        return self._here.dropped

    @property
    def safe_point(self) -> Callable[[], None]:
        """Is called once in every round of play, and now and then while workers are waited for; it may raise."""
        return self._here.safe_point

    @safe_point.setter
    def safe_point(self, call: Callable[[], None]) -> None:
        """From now on this is called."""
        self._here.safe_point = call
        self._workers.safe_point = call

    @property
    def metrics(self) -> dict[str, float]:
        """Counts since the collector was made, as `lapwing.training.metrics` describes them."""
        return {
            "collector/deaths": float(self._workers.deaths),
            "collector/recycled": float(self._workers.recycled),
            "collector/slow": float(self._workers.slow),
            "collector/duplicates": float(self._workers.duplicates),
        }

    def waiting_for(self) -> str:
        """What is being waited for, oldest first; other threads may ask."""
        return self._here.waiting_for()

    def take_faults(self) -> list[dict[str, Any]]:
        """What went wrong since this was asked last, as plain JSON."""
        return self._here.take_faults()

    def collect(self, matches: Sequence[Match]) -> Rollout:
        """As `LocalCollector.collect`.

        Raises:
          UserError: the game cannot be sent to another process, or a policy looks into a state that stays there.
          LapwingError: as `LocalCollector.collect`; or workers die again and again.
        """
        return self._here.collect(matches)

    def play(self, matches: Sequence[Match]) -> list[Episode]:
        """As `collect`, for those who want nothing but the episodes; there may be none."""
        return self._here.play(matches)

    def close(self) -> None:
        """End all workers with their children; a later play starts others."""
        self._workers.close()


def _check(workers: int, max_deaths: int, memory_mb: float | None, *durations: float) -> None:
    if not hasattr(os, "fork"):
        raise UserError("collector.name = 'isolated' needs a system that can fork; use 'local'.")
    if workers < 1:
        raise UserError(f"collector.workers is at least 1, not {workers}.")
    if max_deaths < 0:
        raise UserError(f"collector.max_deaths is at least 0, not {max_deaths}.")
    if memory_mb is not None and not 0.0 < memory_mb < math.inf:
        raise UserError(f"collector.memory_mb is a finite number above 0, not {memory_mb}; leave it out for no limit.")
    for name, duration in zip(("step_seconds", "start_seconds", "death_minutes"), durations, strict=True):
        if not 0.0 < duration < math.inf:
            raise UserError(f"collector.{name} is a finite number above 0, not {duration}.")
