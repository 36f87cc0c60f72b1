"""Connect four: drop discs into columns until four of one player lie in a row."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_lowercase
from typing import ClassVar

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.types import BestKnown, Transition

_MARKS = "01"
_LARGEST = 12
# By the seat that begins: on 6x7, who always drops into the middle column, and when that is full into the first that is
# not, gets 0.806, 0.870 or 0.743 against random play (20,000 matches each, standard errors of at most 0.005), more
# than the null agents; the test of the middle column measures it again.
_BY_ROTE = {None: 0.82, 0: 0.88, 1: 0.76}


@dataclass(frozen=True, slots=True)
class ConnectFourState:
    """The cells row by row, the bottom row first, each `0`, `1` (the seat whose disc it is) or `_`, and who moves."""

    cells: str
    mover: int


@dataclass(frozen=True, slots=True)
class ConnectFourView:
    """The cells as one seat sees them: P its own discs, E the other's, `_` free; and how many make a row."""

    cells: str
    columns: int


@dataclass(frozen=True)
class ConnectFour:
    """Drop discs into columns; whoever has four in a row, across, upwards or aslant, wins.

    | action | meaning |
    | --- | --- |
    | a, b, c, … | drop a disc into this column, from left to right |

    View: all cells, own discs told from the other's. Only columns that are not full are legal.

    Start: an empty board; the seats take turns. The game ends with `connect` discs of one player in a line, or with
    the board full.

    Reward: 1 to the winner and −1 to the other when the game ends, 0 for a draw and for all moves before. Winning is
    success, a draw is none. Every move counts as a step of the match, so `max_steps = rows · columns` never cuts one.

    Reference: Allis 1988, "A Knowledge-based Approach of Connect-Four", who shows that on 6x7 the player who begins
      wins. https://tromp.github.io/c4/c4.html

    Attributes:
      rows, columns: of the board, 2 to 12.
      connect: how many in a line win, at least 2 and at most the longer side.
      first: the seat that begins, 0 or 1; None, the default, draws it for each match.
    """

    rows: int = 6
    columns: int = 7
    connect: int = 4
    first: int | None = None

    num_players: ClassVar[int] = 2
    reward_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = True
    best_known: ClassVar[BestKnown] = BestKnown(1.0, "a win in every match; nobody can do better")

    def __post_init__(self) -> None:
        for name, size in (("rows", self.rows), ("columns", self.columns)):
            if not 2 <= size <= _LARGEST:
                raise UserError(f"A board has 2 to {_LARGEST} {name}, not {size}; set game.{name}.")
        if not 2 <= self.connect <= max(self.rows, self.columns):
            raise UserError(
                f"On a board of {self.rows}x{self.columns} 2 to {max(self.rows, self.columns)} discs can lie in a "
                f"line, not {self.connect}; set game.connect."
            )
        if self.first not in (None, 0, 1):
            raise UserError(f"The seat that begins is 0 or 1, not {self.first}; set game.first, or leave it out.")

    @property
    def null_ceiling(self) -> float | None:
        """Above what the middle column gets against the random opponent; of 6x7 boards only."""
        return _BY_ROTE[self.first] if (self.rows, self.columns, self.connect) == (6, 7, 4) else None

    def initial(self, rng: np.random.Generator) -> ConnectFourState:
        """An empty board; who begins is drawn if it is not set."""
        return ConnectFourState(self._empty, int(rng.integers(2)) if self.first is None else self.first)

    def initial_outcomes(self) -> list[tuple[float, ConnectFourState]]:
        """The one start, or one for each seat that may begin."""
        seats = (0, 1) if self.first is None else (self.first,)
        return [(1.0 / len(seats), ConnectFourState(self._empty, seat)) for seat in seats]

    def players(self, state: ConnectFourState) -> tuple[int, ...]:
        """The seat whose turn it is."""
        return (state.mover,)

    def view(self, state: ConnectFourState, player: int) -> ConnectFourView:
        """The board with the own discs as P."""
        own, other = _MARKS[player], _MARKS[1 - player]
        return ConnectFourView(state.cells.replace(own, "P").replace(other, "E"), self.columns)

    def legal(self, state: ConnectFourState, player: int) -> tuple[str, ...]:
        """The columns that are not full."""
        top = state.cells[-self.columns :]
        return tuple(name for name, mark in zip(ascii_lowercase, top, strict=False) if mark == "_")

    def step(self, state: ConnectFourState, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Drop the mover's disc."""
        return self._dropped(state, ascii_lowercase.index(actions[state.mover]))

    def outcomes(self, state: ConnectFourState, actions: Mapping[int, str]) -> list[tuple[float, Transition]]:
        """The one outcome: nothing is left to chance."""
        return [(1.0, self._dropped(state, ascii_lowercase.index(actions[state.mover])))]

    def heuristic(self, state: ConnectFourState, player: int) -> str:
        """Win, else keep the other from winning, else the column nearest to the middle that gives nothing away.

        A move gives something away if the other wins by a disc on top of it. Of columns at the same distance the left
        one is taken.
        """
        free = sorted(self._free(state.cells), key=lambda column: (abs(2 * column - self.columns + 1), column))
        own, other = _MARKS[player], _MARKS[1 - player]
        for mark in (own, other):
            for column in free:
                if self._wins(state.cells, column, mark):
                    return ascii_lowercase[column]
        safe = [column for column in free if not self._gives_away(state.cells, column, own, other)]
        return ascii_lowercase[(safe or free)[0]]

    def scripted(self, state: ConnectFourState, player: int, rng: np.random.Generator) -> str:
        """The careless opponent: takes a win that is there, else any free column with the same probability."""
        free = self._free(state.cells)
        winning = [column for column in free if self._wins(state.cells, column, _MARKS[player])]
        return ascii_lowercase[winning[0] if winning else free[int(rng.integers(len(free)))]]

    def words(self) -> list[str]:
        """The names of the columns."""
        return list(ascii_lowercase[: self.columns])

    @property
    def _empty(self) -> str:
        return "_" * (self.rows * self.columns)

    def _free(self, cells: str) -> list[int]:
        return [column for column in range(self.columns) if cells[column - self.columns] == "_"]

    def _landing(self, cells: str, column: int) -> int:
        """The cell that a disc in the column comes to lie in."""
        return next(cell for cell in range(column, len(cells), self.columns) if cells[cell] == "_")

    def _wins(self, cells: str, column: int, mark: str) -> bool:
        cell = self._landing(cells, column)
        lines = _lines_through(self.rows, self.columns, self.connect)[cell]
        return any(all(cells[other] == mark for other in line) for line in lines)

    def _gives_away(self, cells: str, column: int, own: str, other: str) -> bool:
        cell = self._landing(cells, column)
        after = cells[:cell] + own + cells[cell + 1 :]
        return cell + self.columns < len(cells) and self._wins(after, column, other)

    def _dropped(self, state: ConnectFourState, column: int) -> Transition:
        mover, mark = state.mover, _MARKS[state.mover]
        cell = self._landing(state.cells, column)
        after = ConnectFourState(state.cells[:cell] + mark + state.cells[cell + 1 :], 1 - mover)
        if self._wins(state.cells, column, mark):
            won = {mover: True, 1 - mover: False}
            return Transition(after, {mover: 1.0, 1 - mover: -1.0}, terminated=True, success=won)
        if "_" not in after.cells:
            return Transition(after, {0: 0.0, 1: 0.0}, terminated=True, success={0: False, 1: False})
        return Transition(after, {0: 0.0, 1: 0.0})


@functools.lru_cache(maxsize=16)
def _lines_through(rows: int, columns: int, connect: int) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """For each cell, the other cells of every line that it lies in."""
    found: list[list[tuple[int, ...]]] = [[] for _ in range(rows * columns)]
    for row in range(rows):
        for column in range(columns):
            for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                last_row, last_column = row + (connect - 1) * down, column + (connect - 1) * right
                if last_row < rows and 0 <= last_column < columns:
                    line = [(row + n * down) * columns + column + n * right for n in range(connect)]
                    for cell in line:
                        found[cell].append(tuple(other for other in line if other != cell))
    return tuple(map(tuple, found))
