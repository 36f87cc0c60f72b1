"""Errors that speak to a person: one sentence with what was wrong, what was found and what to do."""

import difflib
from collections.abc import Iterable


class LapwingError(Exception):
    """Base of every error that Lapwing raises on purpose."""


class UserError(LapwingError):
    """The user's input was wrong; the command line prints the message and exits with 2."""


class GameError(LapwingError):
    """A game broke its contract."""


class MissingColumnError(UserError, KeyError):
    """A batch lacks a column that something needs."""

    def __str__(self) -> str:
        """The sentence, without the quotes that a KeyError puts around it."""
        return str(self.args[0])


def nearest(name: str, options: Iterable[str]) -> str:
    """Return a sentence that offers the valid names nearest to `name`, or lists them all."""
    options = sorted(options)
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"valid names: {', '.join(options)}" if options else "there are none"
