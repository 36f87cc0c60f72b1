"""The arena of worker processes: games that hang, crash or leak end a process and not the training.

Each match is at home with one worker, which keeps its state. Of every step the answer comes back with all that the
match is known by: the state, if its game is restorable, else the actions so far. So a match can go on with any other
worker, in the state where it was, or played again from its start; chance is keyed, so that both are the same play.

    a game raises               it is asked once more in its worker, then the match is given up
    no answer at the deadline   the worker is killed with its children; the match that it was at is given out once
                                more, then given up; the others of that worker go on
    a worker dies               the same, with exit code 0 too
    too much memory             the worker is replaced between steps, and nobody is to blame
    much slower than the others the same, after three rounds
    an answer to a task that
    was answered, or given up   dropped and counted
    too many deaths             LapwingError with the first cause
"""

import pickle
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lapwing.core.errors import LapwingError, UserError
from lapwing.core.types import Action, Match, State
from lapwing.rollout._worker_limits import MAX_FALSE_STARTS, Away, Stragglers, Toll, WorkerLimits
from lapwing.rollout._worker_process import WorkerProcess, wait
from lapwing.rollout._worker_tasks import Broken, Done, Full, Load, Play, Ready, Refused, Stand, Task
from lapwing.rollout.arena import Fault, Moved, Position

# A wait is never longer than this, so that signals are seen.
_GLANCE_SECONDS = 0.1


@dataclass(eq=False)
class _Course:
    """A match: where it stands, and with whom."""

    number: int
    match: Match
    game: int
    home: "_Worker | None" = None
    state: State = None
    steps: int = 0
    past: list[Mapping[int, Action]] = field(default_factory=list)
    keys: Sequence[int] = ()
    deaths: int = 0

    @property
    def step(self) -> int | None:
        return None if not self.keys else self.steps


@dataclass(eq=False)
class _Errand:
    """A task that waits for its answer."""

    number: int
    course: _Course
    actions: Mapping[int, Action] | None
    result: Position | Moved | Fault | None = None


@dataclass(eq=False)
class _Worker:
    """A place among the workers: a process, and after it its replacement."""

    number: int
    process: WorkerProcess
    is_ready: bool = False
    done: int = 0
    done_now: int = 0
    seconds: float = 0.0
    games: set[int] = field(default_factory=set)
    queue: deque[_Errand] = field(default_factory=deque)
    sent: dict[int, _Errand] = field(default_factory=dict)
    forget: list[int] | None = None
    since: float = 0.0


class Workers:
    """Steps games in worker processes; they start with the first match and end with `close`.

    Attributes:
      reissued: matches that were given out again since this was made.
      deaths, recycled, slow: workers that were replaced: they died or hung, held too much memory, lagged behind.
      duplicates: answers to tasks that others had answered.
      safe_point: is called now and then while workers are waited for; it may raise.
    """

    def __init__(self, count: int, limits: WorkerLimits) -> None:
        """Start nothing yet.

        Args:
          count: of the processes.
          limits: of patience.
        """
        self.now: Match | None = None
        self.reissued = self.deaths = self.recycled = self.slow = self.duplicates = 0
        self.safe_point: Callable[[], None] = lambda: None
        self._count = count
        self._limits = limits
        self._workers: list[_Worker] = []
        self._games: list[Any] = []
        self._numbers: dict[Any, int] = {}
        self._courses: list[_Course] = []
        self._open: dict[int, _Errand] = {}
        self._next_task = 0
        self._toll = Toll(limits)
        self._stragglers = Stragglers()
        self._short_lives = 0
        self._glanced = 0.0

    def begin(self, matches: Sequence[Match]) -> list[Position | Fault]:
        """Where each match begins.

        Raises:
          UserError: a game says that the user's input was wrong, or cannot be sent to another process.
          LapwingError: workers die again and again.
        """
        self._courses = [_Course(n, match, self._number_of(match.game)) for n, match in enumerate(matches)]
        for worker in self._workers:
            worker.forget = None
        return self._run([self._errand(course, None) for course in self._courses])

    def advance(self, moves: Sequence[tuple[int, Mapping[int, Action]]]) -> list[Moved | Fault]:
        """Step some matches.

        Raises:
          UserError, LapwingError: as `begin`.
        """
        return self._run([self._errand(self._courses[number], actions) for number, actions in moves])

    def waiting_for(self) -> str:
        """The match that has been waited for longest; other threads may ask."""
        busy = [worker for worker in list(self._workers) if worker.sent or not worker.is_ready]
        if not busy or not self._open:
            return ""
        oldest = min(busy, key=lambda worker: worker.since)
        seconds = time.monotonic() - oldest.since
        errand = next(iter(list(oldest.sent.values())), None)
        if errand is None:
            return f"since {seconds:.0f} s: the start of worker {oldest.number}"
        step = errand.course.step
        where = "its start" if step is None else f"step {step}"
        return f"the oldest since {seconds:.0f} s: {errand.course.match.identifier} in {where}"

    def close(self) -> None:
        """End all workers and their children; the next match starts others."""
        workers, self._workers = self._workers, []
        self._open.clear()
        for worker in workers:
            worker.process.kill()

    def _number_of(self, game: Any) -> int:
        for key in (game, id(game)):
            try:
                number = self._numbers.setdefault(key, len(self._games))
            except (TypeError, ValueError):  # settings that cannot be a key
                continue
            if number == len(self._games):
                self._games.append(game)
            return number
        raise AssertionError("an id is always a key")

    def _errand(self, course: _Course, actions: Mapping[int, Action] | None) -> _Errand:
        self._next_task += 1
        errand = _Errand(self._next_task, course, actions)
        self._open[errand.number] = errand
        return errand

    def _run(self, errands: Sequence[_Errand]) -> list[Any]:
        try:
            while len(self._workers) < self._count:
                self._workers.append(_Worker(len(self._workers), WorkerProcess(), since=time.monotonic()))
            self._line_up(errands)
            while self._open:
                self._give_out()
                wait([worker.process for worker in self._workers], self._patience(time.monotonic()))
                for worker in list(self._workers):
                    self._hear(worker)
                self._replace_the_hung()
                if time.monotonic() - self._glanced > _GLANCE_SECONDS:
                    self._glanced = time.monotonic()
                    self.safe_point()
        except BaseException:
            # What is half done is of no use to anybody, and nothing may run on.
            self.close()
            raise
        self._replace_the_slow()
        return [errand.result for errand in errands]

    def _line_up(self, errands: Sequence[_Errand]) -> None:
        """Give each errand to the worker that knows the match; a match without one to whoever has least to do."""
        for errand in errands:
            worker = errand.course.home
            if worker is None or worker not in self._workers:
                ready = [w for w in self._workers if w.is_ready] or self._workers
                worker = min(ready if errand.actions is not None else self._workers, key=lambda w: len(w.queue))
            worker.queue.append(errand)

    def _give_out(self) -> None:
        for worker in self._workers:
            needed = {errand.course.game for errand in worker.queue}
            missing = next(iter(sorted(needed - worker.games)), None)
            if missing is not None and (worker.is_ready or not worker.games) and not worker.sent:
                worker.games.add(missing)
                worker.is_ready = False
                worker.since = time.monotonic()
                worker.process.send(Load(missing, self._pickled(missing), self._limits.memory_mb))
            elif worker.is_ready and worker.queue and not worker.sent:
                errands, worker.queue = worker.queue, deque()
                worker.sent = {errand.number: errand for errand in errands}
                worker.since = time.monotonic()
                worker.process.send(Play([self._task(errand, worker) for errand in errands], worker.forget))
                worker.forget = []
            else:
                worker.process.write()

    def _pickled(self, number: int) -> bytes:
        game = self._games[number]
        if type(game).__module__ == "__main__":
            raise UserError(
                f"{type(game).__name__} is defined in the program itself, where no other process finds it; move it "
                "into a module, or use collector.name = 'local'."
            )
        try:
            return pickle.dumps(game, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise UserError(
                f"{type(game).__name__} cannot be sent to a worker process ({error}); use collector.name = 'local'."
            ) from error

    def _task(self, errand: _Errand, worker: _Worker) -> Task:
        course = errand.course
        if course.home is worker and errand.actions is not None:
            return Task(errand.number, course.number, None, errand.actions)
        course.home = worker
        bare = replace(course.match, game=None)
        stand = Stand(bare, course.game, course.state, course.steps, tuple(course.past), course.keys)
        return Task(errand.number, course.number, stand, errand.actions)

    def _hear(self, worker: _Worker) -> None:
        try:
            messages, gone = worker.process.read()
        except ValueError as error:
            self._lose(worker, f"sent what is no answer ({error})", gone=False)
            return
        for message in messages:
            if isinstance(message, Full):
                self._recycle(worker, message.resident_mb)
                return
            self._take(worker, message)
        if gone or worker.process.has_ended():
            self._lose(worker, "died", gone=True)

    def _take(self, worker: _Worker, message: Ready | Broken | Refused | Done) -> None:
        if isinstance(message, Done):
            self._finish(worker, message)
        elif isinstance(message, Ready):
            worker.is_ready = True
            worker.process.process = message.process
            self._toll.one_is_ready()
            if self._limits.memory_mb is not None and message.resident_mb > self._limits.memory_mb:
                raise UserError(
                    f"A worker holds {message.resident_mb:.0f} MiB when it has loaded {self._game_names()}, which is "
                    f"more than collector.memory_mb = {self._limits.memory_mb:g}; raise it."
                )
        elif isinstance(message, Refused):
            raise UserError(message.sentence)
        else:
            raise LapwingError(
                f"No worker process can load {self._game_names()}: {message.sentence}. Its module must be importable "
                f"in a fresh interpreter; or use collector.name = 'local'.\n{message.traceback}"
            )

    def _finish(self, worker: _Worker, done: Done) -> None:
        errand = worker.sent.pop(done.task, None)
        if errand is None or done.task not in self._open:
            self.duplicates += 1
            return
        now = time.monotonic()
        worker.seconds += now - worker.since
        worker.since = now
        worker.done += 1
        worker.done_now += 1
        self.reissued += done.reissued
        del self._open[done.task]
        errand.result = done.result
        if isinstance(done.result, Fault):
            return
        course, result = errand.course, done.result
        position = result if isinstance(result, Position) else result[1]
        course.steps += errand.actions is not None
        course.keys = position.keys
        if course.match.game.restorable:
            course.state = position.state
            return
        away = position._replace(state=Away(type(course.match.game).__name__))
        errand.result = away if isinstance(result, Position) else (result[0], away)
        if errand.actions is not None:
            course.past.append(errand.actions)

    def _recycle(self, worker: _Worker, resident_mb: float) -> None:
        self._short_lives = self._short_lives + 1 if worker.done <= 1 else 0
        if self._short_lives >= MAX_FALSE_STARTS:
            raise UserError(
                f"Workers of {self._game_names()} hold {resident_mb:.0f} MiB after their first task, more than "
                f"collector.memory_mb = {self._limits.memory_mb or 0:g}; raise it."
            )
        self.recycled += 1
        worker.process.kill()
        self._replace(worker, list(worker.sent.values()))

    def _lose(self, worker: _Worker, what: str, *, gone: bool) -> None:
        """Replace a worker, and line up again what it had to do; the match that it was at is asked twice at most."""
        how = worker.process.kill(gone=gone)
        said = worker.process.said()
        cause = f"its worker process {what}" + (f" ({how})" if gone else "")
        unfinished = list(worker.sent.values())
        self.deaths += 1
        self._toll.add(cause, said, was_ready=worker.is_ready, games=self._game_names())
        if unfinished:
            # Tasks are done in order, so that it was at the first that has no answer.
            culprit = unfinished.pop(0)
            course = culprit.course
            course.deaths += 1
            if course.deaths == 1:
                unfinished.append(culprit)
            else:
                where = "at the start" if course.step is None else f"in step {course.step}"
                text = f"{type(course.match.game).__name__} failed {where}: {cause}"
                culprit.result = Fault(text, course.step, said)
                del self._open[culprit.number]
        self.reissued += len(unfinished)
        self._replace(worker, unfinished)

    def _replace(self, worker: _Worker, unfinished: Sequence[_Errand]) -> None:
        for course in self._courses:
            if course.home is worker:
                course.home = None
        waiting = [*unfinished, *worker.queue]
        fresh = _Worker(worker.number, WorkerProcess(), since=time.monotonic())
        self._workers[self._workers.index(worker)] = fresh
        self._line_up(waiting)

    def _replace_the_hung(self) -> None:
        now = time.monotonic()
        for worker in list(self._workers):
            if not worker.is_ready:
                if worker.games and now - worker.since > self._limits.start_seconds:
                    self._lose(worker, f"was not ready within {self._limits.start_seconds:g} s", gone=False)
            elif worker.sent and now - worker.since > self._limits.step_seconds:
                worker.process.ask_where()
                what = f"gave no answer within step_seconds = {self._limits.step_seconds:g} and was killed"
                self._lose(worker, what, gone=False)

    def _replace_the_slow(self) -> None:
        paces = {worker.number: (worker.done_now, worker.seconds) for worker in self._workers}
        for worker in self._workers:
            worker.done_now, worker.seconds = 0, 0.0
        slow = self._stragglers.slowest(paces)
        if slow is not None:
            self.slow += 1
            self._workers[slow].process.kill()
            self._replace(self._workers[slow], ())

    def _patience(self, now: float) -> float:
        ends = [w.since + self._limits.step_seconds - now for w in self._workers if w.sent]
        return max(0.0, min([*ends, _GLANCE_SECONDS]))

    def _game_names(self) -> str:
        return ", ".join(sorted({type(game).__name__ for game in self._games}))
