"""Why a match cannot be played."""

import traceback
from typing import NamedTuple

from lapwing.core.clean_text import printable
from lapwing.core.errors import GameError
from lapwing.core.types import Match
from lapwing.rollout._transitions import in_short

# What a game may raise without ending more than its match; SystemExit would end the run without a word.
CAUGHT = (Exception, SystemExit)
# Of a longer traceback only the end is told.
_TRACEBACK_CHARS = 8000


class Fault(NamedTuple):
    """Why a match cannot be played.

    Attributes:
      text: a sentence.
      step: of the match, from 0; None before the first.
      traceback: where it was raised, or what the worker process wrote last.
      error: what was raised, where that was in this process.
    """

    text: str
    step: int | None
    traceback: str
    error: BaseException | None = None


def fault_of(match: Match, step: int | None, error: BaseException) -> Fault:
    """The fault that an error makes of a match."""
    try:
        said = str(error)
    except CAUGHT:  # its own __str__ may fail as well
        said = ""
    kind = "" if isinstance(error, GameError) else f"{type(error).__name__}: " if said else type(error).__name__
    where = "at the start" if step is None else f"in step {step}"
    trace = "".join(traceback.format_exception(error))
    return Fault(
        f"{type(match.game).__name__} failed {where}: {in_short(kind + said, quoted=False)}",
        step,
        printable(trace[-_TRACEBACK_CHARS:]),
        error,
    )
