"""The ledger: what became of every match that was given out to be played."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lapwing.core.errors import LapwingError
from lapwing.core.types import Episode


def count_matches(episodes: Sequence[Episode]) -> int:
    """How many matches these episodes are of: each seat that learns has one of its own."""
    return len({id(episode.match) for episode in episodes})


@dataclass
class Ledger:
    """Counts of matches.

        issued = finished + failed + dropped + open

    Attributes:
      issued: given out, each once, however often it had to be played.
      finished: came back as an episode, or as those of several seats.
      failed: their game failed, also when they were played once more; or their task ended with an error.
      dropped: given up at a deadline or by a signal, over before the learner's turn, or too old when they were asked
        for.
      stale: the too old ones among these.
      reissued: given out again because their game failed, or because an actor or worker died or hung.
      duplicates: came back when their task had been answered, or dropped, already.
    """

    issued: int = 0
    finished: int = 0
    failed: int = 0
    dropped: int = 0
    stale: int = 0
    reissued: int = 0
    duplicates: int = 0
    _open: dict[int, int] = field(default_factory=dict)
    _next: int = 0
    _taken: tuple[int, int, int] = (0, 0, 0)

    def issue(self, matches: int) -> int:
        """Open a task of so many matches and return its number."""
        task = self._next
        self._next += 1
        self._open[task] = matches
        self.issued += matches
        return task

    def is_open(self, task: int) -> bool:
        """Whether nobody has answered the task yet."""
        return task in self._open

    def finish(self, task: int, *, matches: int, episodes: int, dropped: int, failed: int = 0) -> bool:
        """Take note of an answer; only the first one to a task counts.

        Args:
          task: its number.
          matches: that the task held.
          episodes, dropped, failed: matches that came back as episodes, were given up, and whose game failed.

        Returns:
          Whether this was the first answer.

        Raises:
          LapwingError: the answer does not account for all matches.
        """
        if task not in self._open:
            self.duplicates += matches
            return False
        if self._open[task] != matches or episodes + dropped + failed != matches:
            also = f" and {failed} failed" if failed else ""
            held = self._open[task]
            raise LapwingError(
                f"Task {task} holds {held} matches, but {episodes} were played and {dropped} given up{also}."
            )
        del self._open[task]
        self.finished += episodes
        self.dropped += dropped
        self.failed += failed
        return True

    def fail(self, task: int) -> None:
        """The task ended with an error; one that was answered before stays answered."""
        self.failed += self._open.pop(task, 0)

    def fail_all(self) -> None:
        """Nobody will answer any more."""
        for task in list(self._open):
            self.fail(task)

    def discard(self, task: int, *, episodes: int) -> int:
        """Drop a task that nobody wants any more.

        Args:
          task: its number.
          episodes: matches of it that had come back.

        Returns:
          How many matches are dropped with it.
        """
        unanswered = self._open.pop(task, 0)
        self.finished -= episodes
        self.dropped += episodes + unanswered
        return episodes + unanswered

    def audit(self) -> None:
        """Compare the two sides.

        Raises:
          LapwingError: a match was lost or counted twice.
        """
        ended = self.finished + self.failed + self.dropped
        if self.issued != ended + sum(self._open.values()):
            raise LapwingError(
                f"The ledger does not balance: {self.issued} matches were issued, {self.finished} finished, "
                f"{self.failed} failed, {self.dropped} were dropped and {sum(self._open.values())} are open."
            )

    def take(self) -> dict[str, int]:
        """Audit, and count what was lost since this was asked last, as `lapwing.training.metrics` describes it.

        Raises:
          LapwingError: a match was lost or counted twice.
        """
        self.audit()
        now = (self.failed, self.dropped - self.stale, self.reissued)
        failed, dropped, reissued = (count - before for count, before in zip(now, self._taken, strict=True))
        self._taken = now
        return {"rollout/failed": failed, "rollout/dropped": dropped, "rollout/reissued": reissued}
