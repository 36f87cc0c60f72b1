"""Tic-tac-toe, the smallest game of two players that takes turns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.types import Transition

# Row 1 is at the bottom, as on a chessboard.
CELLS = ("a1", "b1", "c1", "a2", "b2", "c2", "a3", "b3", "c3")
LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
_MARKS = "01"
# The centre, the corners, the sides.
_PREFERENCE = (4, 0, 2, 6, 8, 1, 3, 5, 7)
# By the seat that begins: who always marks the first free cell gets 0.2613, 0.6042 or -0.0815 against random play
# (exact), random play itself less.
_BY_ROTE = {None: 0.27, 0: 0.61, 1: -0.08}


@dataclass(frozen=True, slots=True)
class TicTacToeState:
    """The nine cells in the order of `CELLS`, each `0`, `1` (the seat whose mark it holds) or `_`, and who moves."""

    cells: str
    mover: int


@dataclass(frozen=True, slots=True)
class TicTacToeView:
    """The nine cells in the order of `CELLS` as one seat sees them: P its own marks, E the other's, `_` free."""

    cells: str


@dataclass(frozen=True)
class TicTacToe:
    """Get three marks in a line before the other player does.

    | action | meaning |
    | --- | --- |
    | a1, b1, c1, a2, … c3 | mark this cell: column a to c, row 1 (bottom) to 3 |

    View: the nine cells, own marks told from the other's. Only free cells are legal.

    Start: an empty board; the seats take turns. The game ends with three marks in a row, a column or a diagonal, or
    with the board full.

    Reward: 1 to the winner and −1 to the other when the game ends, 0 for a draw and for all moves before. Winning is
    success, a draw is none. Every move counts as a step of the match, so `max_steps = 9` never cuts one.

    Reference: Sutton and Barto 2018, "Reinforcement Learning: An Introduction", section 1.5.
      http://incompleteideas.net/book/the-book-2nd.html

    Attributes:
      first: the seat that begins, 0 or 1; None, the default, draws it for each match.
    """

    first: int | None = None

    num_players: ClassVar[int] = 2
    reward_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.first not in (None, 0, 1):
            raise UserError(f"The seat that begins is 0 or 1, not {self.first}; set game.first, or leave it out.")

    @property
    def null_ceiling(self) -> float:
        """What who marks the first free cell gets against random play."""
        return _BY_ROTE[self.first]

    def initial(self, rng: np.random.Generator) -> TicTacToeState:
        """An empty board; who begins is drawn if it is not set."""
        return TicTacToeState("_" * 9, int(rng.integers(2)) if self.first is None else self.first)

    def initial_outcomes(self) -> list[tuple[float, TicTacToeState]]:
        """The one start, or one for each seat that may begin."""
        seats = (0, 1) if self.first is None else (self.first,)
        return [(1.0 / len(seats), TicTacToeState("_" * 9, seat)) for seat in seats]

    def players(self, state: TicTacToeState) -> tuple[int, ...]:
        """The seat whose turn it is."""
        return (state.mover,)

    def view(self, state: TicTacToeState, player: int) -> TicTacToeView:
        """The board with the own marks as P."""
        own, other = _MARKS[player], _MARKS[1 - player]
        return TicTacToeView(state.cells.replace(own, "P").replace(other, "E"))

    def legal(self, state: TicTacToeState, player: int) -> tuple[str, ...]:
        """The free cells."""
        return tuple(name for name, mark in zip(CELLS, state.cells, strict=True) if mark == "_")

    def step(self, state: TicTacToeState, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Put the mover's mark."""
        return _marked(state, CELLS.index(actions[state.mover]))

    def outcomes(self, state: TicTacToeState, actions: Mapping[int, str]) -> list[tuple[float, Transition]]:
        """The one outcome: nothing is left to chance."""
        return [(1.0, _marked(state, CELLS.index(actions[state.mover])))]

    def heuristic(self, state: TicTacToeState, player: int) -> str:
        """Win, else keep the other from winning, else the centre, a corner, a side; it does not look for forks."""
        own, other = _MARKS[player], _MARKS[1 - player]
        free = [cell for cell in _PREFERENCE if state.cells[cell] == "_"]
        for mark in (own, other):
            for cell in free:
                if _has_line(_with_mark(state.cells, cell, mark), mark):
                    return CELLS[cell]
        return CELLS[free[0]]

    def scripted(self, state: TicTacToeState, player: int, rng: np.random.Generator) -> str:
        """The careless opponent: takes a win that is there, else any free cell with the same probability."""
        free = [cell for cell in range(9) if state.cells[cell] == "_"]
        mark = _MARKS[player]
        winning = [cell for cell in free if _has_line(_with_mark(state.cells, cell, mark), mark)]
        return CELLS[winning[0] if winning else free[int(rng.integers(len(free)))]]


def _with_mark(cells: str, cell: int, mark: str) -> str:
    return cells[:cell] + mark + cells[cell + 1 :]


def _has_line(cells: str, mark: str) -> bool:
    return any(cells[a] == cells[b] == cells[c] == mark for a, b, c in LINES)


def _marked(state: TicTacToeState, cell: int) -> Transition:
    mover, mark = state.mover, _MARKS[state.mover]
    cells = _with_mark(state.cells, cell, mark)
    after = TicTacToeState(cells, 1 - mover)
    if _has_line(cells, mark):
        won = {mover: True, 1 - mover: False}
        return Transition(after, {mover: 1.0, 1 - mover: -1.0}, terminated=True, success=won)
    if "_" not in cells:
        return Transition(after, {0: 0.0, 1: 0.0}, terminated=True, success={0: False, 1: False})
    return Transition(after, {0: 0.0, 1: 0.0})
