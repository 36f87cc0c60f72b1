"""Errors that speak to a person: one sentence with what was wrong, what was found and what to do."""

import difflib
import re
from collections.abc import Iterable


class LapwingError(Exception):
    """Base of every error that Lapwing raises on purpose."""


class UserError(LapwingError):
    """The user's input was wrong; the command line prints the message and exits with 2."""


class GameError(LapwingError):
    """A game broke its contract."""


class NonFiniteError(LapwingError):
    """Weights or logits are no longer numbers; a run goes on from its last checkpoint."""


class NothingPlayedError(LapwingError):
    """No match met its deadline."""


class MissingColumnError(UserError, KeyError):
    """A batch lacks a column that something needs."""

    def __str__(self) -> str:
        """The sentence, without the quotes that a KeyError puts around it."""
        return str(self.args[0])


def nearest(name: str, options: Iterable[str]) -> str:
    """Return a sentence that offers the valid names nearest to `name`, or lists them all."""
    options = sorted(options)
    close = closest(name, options)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"valid names: {', '.join(options)}" if options else "there are none"


def closest(name: str, options: Iterable[str], *, cutoff: float = 0.5) -> list[str]:
    """At most three of the options that a person may have meant, the likeliest first.

    Args:
      name: what the person wrote.
      options: the valid names.
      cutoff: how like an option must be, in (0, 1].
    """
    scores = sorted(((likeness(name, option), option) for option in options), key=lambda pair: (-pair[0], pair[1]))
    found = [(score, option) for score, option in scores if score >= cutoff][:3]
    # Beside one that is right but for a letter, those that share half of their letters only distract.
    return [option for score, option in found if score >= found[0][0] - 0.2]


_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# Longer names than any option are no slips of the hand.
_LONGEST_NAME = 100


def likeness(name: str, option: str) -> float:
    """How probable it is that somebody who wrote `name` meant `option`, from 0 to 1 in no unit.

    Letter case, hyphens for underscores and words run together do not count; neither do the ends of words that were
    left out, or all letters but the first ones of the words.
    """
    written = _HUMP.sub("_", name[:_LONGEST_NAME]).lower().strip().replace("-", "_").replace(" ", "_")
    if written == option:
        return 1.0
    letters, wanted = written.replace("_", ""), option.lower().replace("_", "")
    if letters == wanted:
        return 0.99
    score = difflib.SequenceMatcher(None, letters, wanted).ratio()
    words = [word for word in option.lower().split("_") if word]
    if len(letters) > 1 and letters == "".join(word[0] for word in words):
        return max(score, 0.85)
    if len(letters) > 2 and (wanted.startswith(letters) or letters in words):
        return max(score, 0.75)
    return score


_LONGEST_VALUE = 60


def shown(value: object) -> str:
    """A value as a sentence quotes it: in one line and not too long, whatever it is."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**_LONGEST_VALUE:
        return f"a number of about {int(value.bit_length() * 0.30103) + 1} digits"
    if isinstance(value, str):
        return repr(shortened(value, _LONGEST_VALUE))
    try:
        return shortened(repr(value), _LONGEST_VALUE)
    except ValueError:  # a number inside has more than 4,300 digits
        return f"a {type(value).__name__} with a number of too many digits"


def shortened(text: str, most: int) -> str:
    """The text, or its beginning with an ellipsis if it has more characters than `most`."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
