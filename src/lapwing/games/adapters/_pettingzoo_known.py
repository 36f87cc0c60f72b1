"""What is known of some environments of PettingZoo: names of actions, views in words, whether anything is drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from lapwing.core.types import View
from lapwing.games.connect_four import ConnectFourView
from lapwing.games.tic_tac_toe import CELLS, TicTacToeView

# PettingZoo counts the cells down the columns, from the left and from the top.
_CELL_NAMES = tuple("abc"[cell // 3] + "321"[cell % 3] for cell in range(9))
_COLUMN_NAMES = tuple("abcdefg")
_HANDS = ("rock", "paper", "scissors", "spock", "lizard")


@dataclass(frozen=True, slots=True)
class PettingzooView:
    """What a seat sees, in words."""

    text: str


@dataclass(frozen=True, slots=True)
class Known:
    """How an environment is played as a game.

    Attributes:
      actions: a name for each number of an action; empty for the numbers themselves.
      view: the view of an observation, from plain data.
      chance: what is drawn at random: "none", "reset" or "steps".
      fully_observed: what the seats see, and who moves, is all that matters for what comes.
      reward_range: lowest and highest reward of a step.
      wins: a positive return is a success.
      null_ceiling: what seat 0 is paid at most, on average, who plays without looking against random play.
      rotated_null_ceiling: the same, where it is drawn on which seat that player sits.
    """

    actions: tuple[str, ...] = ()
    view: Callable[[Any], View] | None = None
    chance: str | None = None
    fully_observed: bool = False
    reward_range: tuple[float, float] | None = None
    wins: bool = False
    null_ceiling: float | None = None
    rotated_null_ceiling: float | None = None


def plain(value: Any) -> Any:
    """An observation as plain hashable data: arrays as nested tuples, dictionaries as sorted pairs."""
    if isinstance(value, np.ndarray):
        # Observations come again and again: at every replay, and in every match of a small game.
        return _array(value.dtype.str, value.shape, value.tobytes()) if value.dtype != object else plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return tuple((str(key), plain(value[key])) for key in sorted(value, key=str))
    if isinstance(value, (list, tuple)):
        return tuple(plain(item) for item in value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


@lru_cache(maxsize=1 << 15)
def _array(kind: str, shape: tuple[int, ...], data: bytes) -> Any:
    return _tuples(np.frombuffer(data, dtype=kind).reshape(shape).tolist())


def _tuples(value: Any) -> Any:
    return tuple([_tuples(item) for item in value]) if type(value) is list else value


def text_view(observation: Any) -> PettingzooView:
    """Any observation in words: numbers between blanks, rows between slashes, entries of a dictionary by name."""
    return PettingzooView(_text(observation))


def _text(value: Any) -> str:
    if not isinstance(value, tuple):
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    if value and all(isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) for item in value):
        return " ".join(f"{name} : {_text(item)} ." for name, item in value)
    return (" / " if any(isinstance(item, tuple) for item in value) else " ").join(_text(item) for item in value)


def _marks(observation: Any) -> list[list[str]]:
    """Rows of marks from two planes, the own one and the other's: P, E, or _ for neither."""
    return [["P" if own else "E" if other else "_" for own, other in row] for row in observation]


def _tic_tac_toe(observation: Any) -> TicTacToeView:
    by_name = dict(zip(_CELL_NAMES, [mark for column in _marks(observation) for mark in column], strict=True))
    return TicTacToeView("".join(by_name[cell] for cell in CELLS))


def _connect_four(observation: Any) -> ConnectFourView:
    # PettingZoo has the top row first.
    rows = ["".join(row) for row in _marks(observation)]
    return ConnectFourView("".join(reversed(rows)), len(rows[0]))


def _last_hand(observation: Any) -> PettingzooView:
    # The number behind the last hand stands for none; with more than five hands the others have numbers too.
    return PettingzooView(f"enemy : {_HANDS[observation] if observation < 3 else 'none'}")


# The ceilings of the board games are those of `tic_tac_toe` and `connect_four`, where seat 0 begins and where it is
# drawn who begins.
KNOWN = {
    "tictactoe_v3": Known(_CELL_NAMES, _tic_tac_toe, "none", True, (-1.0, 1.0), True, 0.61, 0.27),
    "connect_four_v3": Known(_COLUMN_NAMES, _connect_four, "none", True, (-1.0, 1.0), True, 0.88, 0.82),
    # Against a random hand each hand is worth 0, exactly.
    "rps_v2": Known(_HANDS[:3], _last_hand, "none", False, (-1.0, 1.0), True, 0.0, 0.0),
}
