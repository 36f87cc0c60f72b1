"""What a game returns, looked at before anything is learnt from it."""

import sys
from typing import Any

from lapwing.core.clean_text import printable
from lapwing.core.errors import GameError
from lapwing.core.types import Transition

_LARGEST = sys.float_info.max
_FINITE = (-_LARGEST, _LARGEST)
_MESSAGE_CHARS = 500


def check_players(game: Any, players: Any) -> None:
    """See whether somebody decides, and nobody who has no seat.

    Raises:
      GameError: it is not so.
    """
    if not players or any(player not in range(game.num_players) for player in players):
        raise GameError(
            f"{type(game).__name__} lets {in_short(players)} decide; seats are 0 to {game.num_players - 1}, and while "
            "the match goes on there is at least one."
        )


def bounds_of(game: Any) -> tuple[float, float]:
    """The lowest and the highest reward of a game, as finite numbers."""
    low, high = game.reward_range
    return max(low, -_LARGEST), min(high, _LARGEST)


def check_transition(game: Any, transition: Any, bounds: tuple[float, float]) -> None:
    """See whether a transition can be learnt from.

    Args:
      game: whose it is.
      transition: what `step` returned.
      bounds: as `bounds_of` gives them.

    Raises:
      GameError: it is no Transition, a reward is no finite number in the game's range, or `terminated` is no bool.
    """
    if not isinstance(transition, Transition):
        raise GameError(f"{type(game).__name__} returns {type(transition).__name__} from step; return a Transition.")
    low, high = bounds
    for reward in transition.reward.values():
        # A NaN fails every comparison.
        if type(reward) is not float or not low <= reward <= high:
            _check_number(game, "reward", reward, bounds)
    if type(transition.terminated) is not bool:
        raise GameError(f"{type(game).__name__} returns terminated {in_short(transition.terminated)}; it is a bool.")
    if transition.success or transition.outcome or transition.parts:
        _check_extras(game, transition)


def _check_extras(game: Any, transition: Transition) -> None:
    if transition.success is not None:
        for success in transition.success.values():
            if type(success) is not bool:
                raise GameError(f"{type(game).__name__} returns success {in_short(success)}; it is a bool.")
    if transition.outcome is not None:
        for outcome in transition.outcome.values():
            if type(outcome) is not float or not -_LARGEST <= outcome <= _LARGEST:
                _check_number(game, "outcome", outcome, _FINITE)
    for part in transition.parts.values():
        if type(part) is not float or not -_LARGEST <= part <= _LARGEST:
            _check_number(game, "a reward part", part, _FINITE)


def _check_number(game: Any, noun: str, number: Any, bounds: tuple[float, float]) -> None:
    name = type(game).__name__
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise GameError(f"{name} returns {noun} {in_short(number)} of type {type(number).__name__}; it is a float.")
    low, high = bounds
    if not -_LARGEST <= number <= _LARGEST:
        raise GameError(f"{name} returns {noun} {in_short(number)}; it is a finite number.")
    # A sum of weights may miss its bound by a rounding.
    if not low - 1e-9 * max(1.0, abs(low)) <= number <= high + 1e-9 * max(1.0, abs(high)):
        raise GameError(f"{name} returns {noun} {in_short(number)}, outside its reward_range ({low:g}, {high:g}).")


def in_short(value: Any, *, quoted: bool = True) -> str:
    """The beginning of a value as text that a terminal can show."""
    text = printable(repr(value) if quoted else value)
    return text if len(text) <= _MESSAGE_CHARS else f"{text[:_MESSAGE_CHARS]} …"
