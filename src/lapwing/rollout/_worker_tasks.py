"""What the frames to and from a worker process mean."""

import os
import pickle
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from lapwing.core.clean_text import printable
from lapwing.core.errors import UserError
from lapwing.core.types import Action, Match, State
from lapwing.rollout.arena import CAUGHT, Fault, Here, Moved, Position, fault_of, replayed, restored

_MIB = 1 << 20


class Load(NamedTuple):
    """Hold this game ready; answered by `Ready` or `Broken`.

    Attributes:
      game: its number.
      content: pickled.
      memory_mb: what the worker may hold.
    """

    game: int
    content: bytes
    memory_mb: float | None


class Ready(NamedTuple):
    """The game is there; the process has this number, and holds so much memory."""

    process: int
    resident_mb: float


class Broken(NamedTuple):
    """The game could not be made here."""

    sentence: str
    traceback: str


class Stand(NamedTuple):
    """A match that the worker does not know yet, and where it stands.

    Attributes:
      match, game: without its game, and the game's number.
      state, steps: of a game that is restorable; None and 0 at the start of the match.
      past, keys: what was done so far, and the keys of the views that this led to, of any other game.
    """

    match: Match
    game: int
    state: State = None
    steps: int = 0
    past: Sequence[Mapping[int, Action]] = ()
    keys: Sequence[int] = ()


class Task(NamedTuple):
    """Begin a match (no actions), or step it; answered by `Done`.

    Attributes:
      task: its number, never used again.
      match: the number of the match.
      stand: where the match stands, if the worker does not know it.
      actions: what the players do.
    """

    task: int
    match: int
    stand: Stand | None
    actions: Mapping[int, Action] | None


class Play(NamedTuple):
    """Do these tasks in order; forget these matches, or all."""

    tasks: Sequence[Task]
    forget: Sequence[int] | None


class Done(NamedTuple):
    """What came of a task, and whether the game had to be asked twice."""

    task: int
    result: Position | Moved | Fault
    reissued: int


class Refused(NamedTuple):
    """The game said that the user's input was wrong."""

    sentence: str


class Full(NamedTuple):
    """The process holds more memory than it may, and does no more tasks."""

    resident_mb: float


class Tasks:
    """Does tasks with the games of this process."""

    def __init__(self, say: Callable[[Any], None]) -> None:
        """Know no game.

        Args:
          say: sends an answer.
        """
        self._say = say
        self._arena = Here()
        self._games: dict[int, Any] = {}
        self._memory_mb: float | None = None
        self._done = 0

    def do(self, message: Load | Play) -> bool:
        """Do what a message says; False if this process is of no more use."""
        if isinstance(message, Load):
            return self._load(message)
        if message.forget is None:
            self._arena = Here()
        for match in message.forget or ():
            self._arena.drop(match)
        return all(self._answer(task) for task in message.tasks)

    def _load(self, message: Load) -> bool:
        try:
            self._games[message.game] = pickle.loads(message.content)
        except CAUGHT as error:
            sentence = f"{type(error).__name__}: {error}"
            self._say(Broken(printable(sentence), printable(traceback.format_exc()[-8000:])))
            return False
        if message.memory_mb is not None and self._memory_mb is None:
            self._memory_mb = message.memory_mb
            _limit_memory(2.0 * message.memory_mb)
        self._say(Ready(os.getpid(), _resident_mb()))
        return True

    def _answer(self, task: Task) -> bool:
        before = self._arena.reissued
        try:
            result = self._result(task)
        except UserError as error:
            self._say(Refused(str(error)))
            return True
        if isinstance(result, Fault):
            if isinstance(result.error, MemoryError) and self._done:
                # Perhaps what other matches have left behind; a fresh process will tell.
                self._say(Full(_resident_mb()))
                return False
            result = result._replace(error=None)
        self._done += 1
        reissued = self._arena.reissued - before
        try:
            self._say(Done(task.task, result, reissued))
        except (*CAUGHT, RecursionError) as error:
            fault = fault_of(self._match(task), None, TypeError(f"what it returned cannot be sent: {error}"))
            self._say(Done(task.task, fault._replace(error=None), reissued))
        if self._memory_mb is not None and _resident_mb() > self._memory_mb:
            self._say(Full(_resident_mb()))
            return False
        return True

    def _match(self, task: Task) -> Match:
        stand = task.stand
        return self._arena.match(task.match) if stand is None else replace(stand.match, game=self._games[stand.game])

    def _result(self, task: Task) -> Position | Moved | Fault:
        arena, number, stand = self._arena, task.match, task.stand
        match = self._match(task)
        if task.actions is None:
            return _to_send(match, arena.begin_one(number, match))
        if stand is not None:
            try:
                standing = (
                    restored(match, stand.state, stand.steps)
                    if match.game.restorable
                    else replayed(match, stand.past, stand.keys)
                )
            except UserError:
                raise
            except CAUGHT as error:
                return fault_of(match, stand.steps, error)
            arena.take_up(number, standing)
        (moved,) = arena.advance([(number, task.actions)])
        return _to_send(match, moved)


def _to_send(match: Match, result: Any) -> Any:
    """The result without a state that only this process can use."""
    if match.game.restorable or isinstance(result, Fault):
        return result
    if isinstance(result, Position):
        return result._replace(state=None)
    transition, position = result
    return replace(transition, state=None), position._replace(state=None)


def _resident_mb() -> float:
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / _MIB
    except OSError:  # not Linux: the most that it ever held
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used / (_MIB if os.uname().sysname == "Darwin" else 1024)


def _limit_memory(more_mb: float) -> None:
    """Let a single step fail rather than the machine; the resident limit is looked at between steps."""
    import resource

    try:
        data = int(Path("/proc/self/statm").read_text("ascii").split()[5]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = data + int(more_mb * _MIB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
