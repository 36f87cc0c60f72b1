"""Ends calls of a game that do not return."""

import contextlib
import functools
import inspect
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_METHODS = (
    "initial",
    "initial_outcomes",
    "players",
    "view",
    "legal",
    "step",
    "outcomes",
    "heuristic",
    "scripted",
    "gold",
    "guess",
    "for_split",
    "words",
)


class Stuck(BaseException):
    """A call of a game did not return in time; no `Exception`, so that a game which catches those does not catch it.

    Attributes:
      method: that was called.
      seed: of the match; None where it is not known.
      place: in the match.
    """

    def __init__(self, method: str) -> None:
        """Nothing but the method is known where a call is ended."""
        super().__init__(method)
        self.method = method
        self.seed: int | None = None
        self.place = ""


class _Clock:
    """Times the outermost call of a game; those that it makes itself are part of it."""

    def __init__(self, limit_seconds: float) -> None:
        self.limit = limit_seconds
        self.method = ""

    def ring(self, number: int, frame: FrameType | None) -> None:
        if self.method:
            raise Stuck(self.method)

    def timed(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*given: Any, **named: Any) -> Any:
            if self.method:
                return original(*given, **named)
            self.method = name
            # Again and again, for a game that catches even this.
            signal.setitimer(signal.ITIMER_REAL, self.limit, self.limit)
            try:
                return original(*given, **named)
            finally:
                self.method = ""
                signal.setitimer(signal.ITIMER_REAL, 0.0)

        return call


class Position:
    """Where a match stands, so that a call which does not return is found again.

    Attributes:
      seed: of the match.
      place: "the start", or the step.
    """

    def __init__(self, seed: int) -> None:
        """A match begins."""
        self.seed = seed
        self.place = "the start"

    def __enter__(self) -> "Position":
        """The match is played."""
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Tell a `Stuck` that passes where it was."""
        if isinstance(error, Stuck) and error.seed is None:
            error.seed, error.place = self.seed, self.place


@contextlib.contextmanager
def watched(game: Any, limit_seconds: float) -> Iterator[None]:
    """While this is entered, a call of the game that takes too long raises `Stuck`.

    Only the main thread can be interrupted, and only where the system has timers; elsewhere nothing is watched. So is
    code that never comes back to the interpreter. The methods of the game's class are replaced meanwhile.

    Args:
      game: whose class is watched.
      limit_seconds: what a call may take.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    clock, kind = _Clock(limit_seconds), type(game)
    own = {name: vars(kind)[name] for name in _METHODS if name in vars(kind)}
    found = {name: inspect.getattr_static(kind, name, None) for name in _METHODS}
    handler, timer = signal.signal(signal.SIGALRM, clock.ring), signal.setitimer(signal.ITIMER_REAL, 0.0)
    watching = [name for name, original in found.items() if inspect.isfunction(original)]
    try:
        for name in watching:
            setattr(kind, name, clock.timed(name, found[name]))
        yield
    finally:
        for name in watching:
            if name in own:
                setattr(kind, name, own[name])
            else:
                delattr(kind, name)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)
