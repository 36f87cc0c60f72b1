"""What others may know of a play while it goes on, what went wrong in it, and when that is too much."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from lapwing.core.errors import LapwingError
from lapwing.core.types import Match
from lapwing.rollout.arena import Arena, Fault

# Of the last so many matches no more than half may fail.
_WINDOW = 100


def _nothing() -> None:
    pass


class Watch:
    """Kept by a collector over all its plays.

    Attributes:
      safe_point: is called where a play may be left; it may raise.
      failed: matches that failed in the play that was begun last.
    """

    def __init__(self) -> None:
        """Nothing has been played."""
        self.safe_point: Callable[[], None] = _nothing
        self.failed = 0
        self._rows: list[dict[str, Any]] = []
        self._first: dict[str, Any] | None = None
        self._newest: deque[bool] = deque(maxlen=_WINDOW)
        self._arena: Arena | None = None
        self._total = 0
        self._live = 0
        self._phase = ""
        self._since = time.monotonic()

    def begin(self, matches: int, arena: Arena | None = None) -> None:
        """A play of so many matches begins."""
        self._total = self._live = matches
        self._arena = arena
        self.failed = 0
        self.enter("the start")

    def enter(self, phase: str, live: int | None = None) -> None:
        """From now on something else is waited for.

        Args:
          phase: what.
          live: matches that go on; None if they are as many as before.
        """
        self._live = self._live if live is None else live
        self._phase = phase
        self._since = time.monotonic()

    def end(self) -> None:
        """Nothing is waited for any more."""
        self._total = self._live = 0

    def fail(self, match: Match, fault: Fault) -> None:
        """A match failed, was played once more, and failed again."""
        self.failed += 1
        self.add_faults(
            [
                {
                    "kind": "game",
                    "text": fault.text,
                    "match": match.identifier,
                    "step": fault.step,
                    "traceback": fault.traceback,
                }
            ]
        )

    def take_faults(self) -> list[dict[str, Any]]:
        """What went wrong since this was asked last, as plain JSON."""
        rows, self._rows = self._rows, []
        return rows

    def add_faults(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take note of what went wrong, here or in another process."""
        self._rows += rows
        if self._first is None and rows:
            self._first = rows[0]

    def judge(self, matches: int, failed: int) -> None:
        """See whether it is worth going on after an iteration.

        Args:
          matches, failed: how many were to be played, and how many of them failed in their game.

        Raises:
          LapwingError: all of them failed, or more than half of the last 100 did.
        """
        self._newest.extend([True] * failed + [False] * (matches - failed))
        if self._first is None or not failed:
            return
        recent = sum(self._newest)
        if failed == matches:
            told = f"All {matches} matches" if matches > 1 else "The match"
        elif len(self._newest) == _WINDOW and recent > _WINDOW // 2:
            told = f"{recent} of the last {_WINDOW} matches"
        else:
            return
        raise LapwingError(
            f"{told} failed in their game, also when they were played once more; try it with lapwing check-game. "
            f"The first: {self._first['text']}\n{self._first['traceback']}"
        )

    def __str__(self) -> str:
        """What is waited for, oldest first, as "3 of 16 matches, since 41 s: train/3/1/0 in its game"."""
        if not self._total:
            return "nothing"
        told = getattr(self._arena, "waiting_for", None)
        named = told() if told is not None else ""
        if named:
            return f"{self._live} of {self._total} matches, {named}"
        now = None if self._arena is None else self._arena.now
        where = self._phase if now is None else f"{now.identifier} in its game"
        return f"{self._live} of {self._total} matches, since {time.monotonic() - self._since:.0f} s: {where}"
