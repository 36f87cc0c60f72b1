"""When workers are given up, and when all of them are."""

import statistics
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lapwing.core.errors import LapwingError, UserError

# Workers that end before they are ready, or that are full after one task, one after the other.
MAX_FALSE_STARTS = 3
# A worker that needs so many times as long for a task as the others, in so many rounds, is replaced; what takes less
# than this is not worth it.
_SLOW_FACTOR, _SLOW_ROUNDS, _SLOW_SECONDS = 8.0, 3, 0.05


@dataclass(frozen=True)
class WorkerLimits:
    """How patient one is with workers.

    Attributes:
      step_seconds: for one call of a game.
      start_seconds: for the start of a process, which imports the game.
      memory_mb: what a worker may hold between steps, MiB; None for no limit.
      max_deaths: within `death_minutes`; one more ends the run.
      death_minutes: see there.
    """

    step_seconds: float
    start_seconds: float
    memory_mb: float | None
    max_deaths: int
    death_minutes: float


class Toll:
    """The deaths of workers; too many of them break the circuit."""

    def __init__(self, limits: WorkerLimits) -> None:
        """Nobody has died.

        Args:
          limits: how many may.
        """
        self._limits = limits
        self._times: deque[float] = deque()
        self._false_starts = 0
        self._first = ""

    def one_is_ready(self) -> None:
        """A worker has started as it should."""
        self._false_starts = 0

    def add(self, cause: str, said: str, *, was_ready: bool, games: str) -> None:
        """Count a death.

        Args:
          cause: of it.
          said: what the process wrote last.
          was_ready: it had started as it should.
          games: what it played.

        Raises:
          LapwingError: there were too many.
        """
        now = time.monotonic()
        self._first = self._first if self._times else f"{cause}\n{said}"
        self._times.append(now)
        while now - self._times[0] > 60.0 * self._limits.death_minutes:
            self._times.popleft()
        self._false_starts += not was_ready
        if self._false_starts >= MAX_FALSE_STARTS:
            told = f"{self._false_starts} worker processes of {games} ended before they could play"
            advice = "import its module in a fresh interpreter to see why"
        elif len(self._times) > self._limits.max_deaths:
            minutes = f"{self._limits.death_minutes:g} minutes (collector.max_deaths = {self._limits.max_deaths})"
            told = f"{len(self._times)} worker processes of {games} were lost within {minutes}"
            advice = "out of memory, or a game that crashes or hangs"
        else:
            return
        last = said.splitlines()[-1] if said else "nothing"
        raise LapwingError(f"{told}; {advice}. The last one wrote last: {last[:300]}\nThe first one: {self._first}")


class Stragglers:
    """Knows which worker lags behind the others, round after round."""

    def __init__(self) -> None:
        """Nobody does."""
        self._rounds: dict[int, int] = {}

    def slowest(self, paces: Mapping[int, tuple[int, float]]) -> int | None:
        """The worker that has been much slower than the others in three rounds in a row, if there is one.

        Args:
          paces: for each worker how many tasks it has done in this round, and in how many seconds.
        """
        each = {number: seconds / tasks for number, (tasks, seconds) in paces.items() if tasks}
        for number, pace in each.items():
            others = [other for at, other in each.items() if at != number]
            lags = others and pace > _SLOW_FACTOR * statistics.median(others) and paces[number][1] > _SLOW_SECONDS
            self._rounds[number] = self._rounds.get(number, 0) + 1 if lags else 0
            if self._rounds[number] == _SLOW_ROUNDS:
                self._rounds[number] = 0
                return number
        return None


class Away:
    """Stands for a state that stays in its worker; whoever looks into it is told so."""

    def __init__(self, game: str) -> None:
        self._game = game

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by copy and pickle
            raise AttributeError(name)
        raise UserError(
            f"The states of {self._game} stay in their worker processes, so that nobody can decide by them; use "
            "collector.name = 'local', or policies that read views."
        )

    def __getitem__(self, key: Any) -> Any:
        return self.item
