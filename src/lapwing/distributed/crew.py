"""The crew: actors that play tasks, and are replaced when they die or hang."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lapwing.core.errors import LapwingError, UserError
from lapwing.core.types import Match
from lapwing.distributed import past_sync
from lapwing.distributed.cluster import ActorLost, Cluster
from lapwing.distributed.player import Answer, Failure, Opened, Player, code_hash
from lapwing.rollout.ledger import Ledger

# An actor imports torch and may load a large model.
_START_SECONDS = 600.0
# A wait is never longer than this, so that signals are seen.
_GLANCE_SECONDS = 2.0


@dataclass(frozen=True)
class Limits:
    """When an actor is given up, and when all of them are.

    Attributes:
      timeout_seconds: an actor that needs longer for a task hangs.
      max_deaths: actors that may be lost in one place within `death_minutes`, or over one task.
      death_minutes: see there.
      depth: tasks that an actor may have waiting, the one that it plays included.
    """

    timeout_seconds: float
    max_deaths: int
    death_minutes: float
    depth: int


@dataclass(eq=False)
class Task:
    """Whole groups of matches that one actor plays with given weights.

    Attributes:
      number: in the ledger.
      matches, where: what to play, and where each match stands in what was asked for.
      edition, version, weights, fingerprint: the weights, their reference, and how to know them.
      past: the versions of the pool of past versions.
      lost: actors that were lost over it.
      answer: once there is one.
    """

    number: int
    matches: Sequence[Match]
    where: Sequence[int]
    edition: int
    version: int
    weights: Any
    fingerprint: str
    past: Sequence[past_sync.Sent] = ()
    lost: int = 0
    answer: Answer | None = None


@dataclass(eq=False)
class _Place:
    """A place in the crew: an actor, and after it its replacement."""

    number: int
    handle: Any = None
    opening: Any = None
    since: float = 0.0
    host: str = "not started yet"
    tasks: dict[Any, Task] = field(default_factory=dict)
    deaths: deque[float] = field(default_factory=deque)
    first_cause: str = ""

    def __str__(self) -> str:
        return f"actor {self.number} ({self.host})"


class Crew:
    """Plays tasks on a fixed number of actors."""

    def __init__(
        self,
        cluster: Cluster,
        ledger: Ledger,
        make: Callable[[], tuple[Any, Any]],
        *,
        actors: int,
        cpus: float,
        gpus: float,
        limits: Limits,
    ) -> None:
        """Start the actors; nobody waits for them yet.

        Args:
          cluster: that has room for them.
          ledger: where matches are counted.
          make: builds the collector and the model of an actor.
          actors: how many.
          cpus, gpus: of each.
          limits: of patience.
        """
        self.deaths = 0
        self.waited = 0.0
        self._code = code_hash()
        self._cluster = cluster
        self._ledger = ledger
        self._make = make
        self._cpus = cpus
        self._gpus = gpus
        self._limits = limits
        self._queue: deque[Task] = deque()
        # What lost actors were playing: an answer may still come, and is as good as any other.
        self._orphans: dict[Any, Task] = {}
        self._places = [_Place(number) for number in range(actors)]
        for place in self._places:
            self._start(place)

    def add(self, tasks: Sequence[Task]) -> None:
        """Line tasks up, and give out what actors can take at once."""
        self._queue.extend(tasks)
        self._give_out()

    def finish(self, tasks: Sequence[Task], safe_point: Callable[[], None]) -> None:
        """Wait until all these tasks have an answer.

        Args:
          tasks: that were added.
          safe_point: is called now and then; it may raise.

        Raises:
          UserError: a game or a policy said that the user's input was wrong.
          LapwingError: something else was raised in an actor, an actor plays with other weights than it should, or
            actors die again and again.
        """
        while any(self._ledger.is_open(task.number) for task in tasks):
            self._give_out()
            safe_point()
            started = time.monotonic()
            ready = self._cluster.wait(self._references(), self._patience(started))
            self.waited += time.monotonic() - started
            for reference in ready:
                self._settle(reference)
            self._replace_the_hung()

    def waiting_for(self) -> str:
        """What has been waited for longest; other threads may ask."""
        busy = [place for place in list(self._places) if place.opening is not None or place.tasks]
        if not busy:
            return "nothing"
        oldest = min(busy, key=lambda place: place.since)
        tasks = list(oldest.tasks.values())
        what = "its start" if oldest.opening is not None else f"{tasks[0].matches[0].identifier} …" if tasks else "play"
        return (
            f"{len(busy)} of {len(self._places)} actors, the oldest since {time.monotonic() - oldest.since:.0f} s: "
            f"{oldest}, {what}"
        )

    def close(self) -> None:
        """End all actors, whatever they are doing."""
        for place in self._places:
            self._cluster.kill(place.handle)
        self._queue.clear()
        self._orphans.clear()
        self._places.clear()

    def _references(self) -> list[Any]:
        opening = [place.opening for place in self._places if place.opening is not None]
        return [*opening, *(reference for place in self._places for reference in place.tasks), *self._orphans]

    def _start(self, place: _Place) -> None:
        place.handle = self._cluster.spawn(
            Player, self._make, max(1, int(self._cpus)), self._gpus > 0, cpus=self._cpus, gpus=self._gpus
        )
        place.opening = self._cluster.call(place.handle, "open")
        place.since = time.monotonic()

    def _give_out(self) -> None:
        while self._queue:
            ready = [p for p in self._places if p.opening is None and len(p.tasks) < self._limits.depth]
            if not ready:
                return
            task = self._queue.popleft()
            if self._ledger.is_open(task.number):
                place = min(ready, key=lambda p: (len(p.tasks), p.number))
                if not place.tasks:
                    place.since = time.monotonic()
                reference = self._cluster.call(
                    place.handle, "play", task.edition, task.version, [task.weights], task.matches, task.past
                )
                place.tasks[reference] = task

    def _settle(self, reference: Any) -> None:
        """Take an answer, or the news that there will be none."""
        if reference in self._orphans:
            task = self._orphans.pop(reference)
            try:
                answer = self._cluster.result(reference)
            except (ActorLost, LapwingError):
                return
            if isinstance(answer, Answer):
                self._accept(task, answer, "a lost actor")
            return
        place = next((p for p in self._places if reference is p.opening or reference in p.tasks), None)
        if place is None:  # its actor was found lost just now
            return
        try:
            answer = self._cluster.result(reference)
        except ActorLost as lost:
            self._lose(place, str(lost))
            return
        place.since = time.monotonic()
        if reference is place.opening:
            self._open(place, answer)
        else:
            self._accept(place.tasks.pop(reference), answer, str(place))

    def _open(self, place: _Place, answer: Opened | Failure) -> None:
        place.opening = None
        if isinstance(answer, Failure):
            raise _raised(answer, f"actor {place.number}, while it was built")
        place.host = f"{answer.host}, process {answer.pid}"
        if answer.code != self._code:
            raise UserError(
                f"The code of Lapwing where {place} runs is not that of this process; install the same one."
            )

    def _accept(self, task: Task, answer: Answer | Failure, who: str) -> None:
        if isinstance(answer, Failure):
            raise _raised(answer, who)
        if (answer.edition, answer.version) != (task.edition, task.version):
            raise LapwingError(
                f"{who} played with version {answer.version} of the weights (edition {answer.edition}) instead of "
                f"{task.version} (edition {task.edition})."
            )
        if answer.fingerprint != task.fingerprint:
            raise LapwingError(
                f"The weights of {who} are not the learner's, though it says version {answer.version}: their "
                f"fingerprints are {answer.fingerprint} and {task.fingerprint}."
            )
        past_sync.check(who, answer.past, task.past)
        counts = {"episodes": answer.count, "dropped": answer.dropped, "failed": answer.failed}
        if self._ledger.finish(task.number, matches=len(task.matches), **counts):
            task.answer = answer
            self._ledger.reissued += answer.reissued

    def _patience(self, now: float) -> float:
        """Seconds until the first actor would hang."""
        ends = [place.since + self._allowed(place) for place in self._places if place.opening or place.tasks]
        return max(0.0, min([*(end - now for end in ends), _GLANCE_SECONDS]))

    def _allowed(self, place: _Place) -> float:
        return _START_SECONDS if place.opening is not None else self._limits.timeout_seconds

    def _replace_the_hung(self) -> None:
        now = time.monotonic()
        for place in self._places:
            if place.opening is None and not place.tasks:
                continue
            if now - place.since <= self._allowed(place):
                continue
            if place.opening is not None:
                raise LapwingError(
                    f"Actor {place.number} did not start within {_START_SECONDS:g} s; the cluster has "
                    f"{self._cluster.free()} free."
                )
            self._lose(place, f"{place} did not answer within timeout_seconds = {self._limits.timeout_seconds:g}.")

    def _lose(self, place: _Place, cause: str) -> None:
        """Replace an actor, and line up again what it had to do."""
        self._cluster.kill(place.handle)
        self.deaths += 1
        now = time.monotonic()
        place.first_cause = place.first_cause if place.deaths else cause
        place.deaths.append(now)
        while now - place.deaths[0] > 60.0 * self._limits.death_minutes:
            place.deaths.popleft()
        unfinished = [task for task in place.tasks.values() if self._ledger.is_open(task.number)]
        if unfinished:
            unfinished[0].lost += 1  # the one that it was playing
        self._orphans |= place.tasks
        place.tasks = {}
        self._break_the_circuit(place, unfinished[:1], cause)
        self._ledger.reissued += sum(len(task.matches) for task in unfinished)
        self._queue.extendleft(reversed(unfinished))
        self._start(place)

    def _break_the_circuit(self, place: _Place, played: Sequence[Task], cause: str) -> None:
        most = self._limits.max_deaths
        advice = "Out of memory, out of /dev/shm, or a game that crashes its process?"
        if len(place.deaths) > most:
            raise LapwingError(
                f"Actor {place.number} was lost {len(place.deaths)} times within {self._limits.death_minutes:g} "
                f"minutes (max_deaths = {most}). {advice} The first time: {place.first_cause}"
            )
        if played and played[0].lost > most:
            names = f"{played[0].matches[0].identifier} … {played[0].matches[-1].identifier}"
            raise LapwingError(
                f"{played[0].lost} actors were lost over the matches {names} (max_deaths = {most}). {advice} "
                f"The last time: {cause}"
            )


def _raised(failure: Failure, who: str) -> LapwingError:
    if failure.is_user_error:
        return UserError(failure.sentence)
    return LapwingError(f"{failure.sentence} (raised in {who})\n{failure.traceback}")
