"""Frozen Lake, by the rules and rewards of Gymnasium."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np

from lapwing.core.errors import GameError, UserError, nearest
from lapwing.core.types import Transition

ACTIONS = ("left", "down", "right", "up")
_MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))

MAPS: dict[str, tuple[str, ...]] = {
    "4x4": ("SFFF", "FHFH", "FFFH", "HFFG"),
    "8x8": (
        "SFFFFFFF",
        "FFFFFFFF",
        "FFFHFFFF",
        "FFFFFHFF",
        "FFFHFFFF",
        "FHHFFFHF",
        "FHFFHFHF",
        "FFFHFFFG",
    ),
}

# Out of 20 parts of all maps: 4 test, 2 development, 14 train.
_SPLIT_OF_PART = ("test",) * 4 + ("development",) * 2 + ("train",) * 14
SPLITS = ("all", "train", "development", "test")
# By size, what random play gets at most on drawn maps with `frozen_probability` up to 0.8, slippery or not: exact means
# over 300 maps are 0.78, 0.39, 0.14 and from there on less. On the fixed maps they are 0.014 and 0.002.
_BY_CHANCE = {2: 0.9, 3: 0.5, 4: 0.25}


@dataclass(frozen=True, slots=True)
class FrozenLakeState:
    """The map, row by row (S start, F frozen, H hole, G goal), and the player's cell, counted row by row."""

    rows: tuple[str, ...]
    position: int


@dataclass(frozen=True, slots=True)
class FrozenLakeView:
    """All that there is to know: the map, the player's row and column from the top left, and whether ice slips."""

    rows: tuple[str, ...]
    row: int
    column: int
    slippery: bool


@dataclass(frozen=True)
class FrozenLake:
    """Cross a frozen lake from the top left to the goal at the bottom right without falling into a hole.

    | action | meaning |
    | --- | --- |
    | left, down, right, up | one cell; a move into the border stays in place |

    Reward: 1 on reaching the goal, else 0. The game ends at the goal (success) and in a hole (no success). On
    slippery ice the move is the intended one or one of its two perpendiculars, with probability 1/3 each.

    The map is drawn from the seed inside `initial`: every cell but start and goal is frozen with probability
    `frozen_probability`, redrawn until a path exists, as Gymnasium does. `split` keeps train, development and test
    maps apart by a hash of the map and its transpose together, so that neither a map nor its mirror image is ever
    in two splits. A fixed map (`map_name`) belongs to every split.

    Reference: Gymnasium's FrozenLake-v1. https://gymnasium.farama.org/environments/toy_text/frozen_lake/

    Attributes:
      size: cells along a side, 2 to 64; 4 if left out, and with a fixed map that map's own.
      frozen_probability: in (0, 1].
      slippery: whether moves slip.
      map_name: one of Gymnasium's fixed maps, "4x4" or "8x8"; None draws maps.
      split: "all", "train", "development" or "test".
    """

    size: int | None = None
    frozen_probability: float = 0.8
    slippery: bool = False
    map_name: str | None = None
    split: str = "all"

    num_players: ClassVar[int] = 1
    reward_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.0 < self.frozen_probability <= 1.0:
            raise UserError(
                f"frozen_probability is a probability above 0, not {self.frozen_probability}; set it in (0, 1]."
            )
        if self.map_name is not None and self.map_name not in MAPS:
            raise UserError(f"There is no lake map '{self.map_name}'; {nearest(self.map_name, MAPS)}")
        if self.split not in SPLITS:
            raise UserError(f"There is no split '{self.split}'; {nearest(self.split, SPLITS)}")
        own_size = 4 if self.map_name is None else len(MAPS[self.map_name])
        size = own_size if self.size is None else self.size
        if not 2 <= size <= 64:
            raise UserError(f"A frozen lake has 2 to 64 cells along a side, not {size}; set game.size.")
        if self.map_name is not None and size != own_size:
            raise UserError(f"The lake map {self.map_name} has size {own_size}, not {size}; leave game.size out.")
        object.__setattr__(self, "size", size)

    @property
    def null_ceiling(self) -> float:
        """What random play gets at most in 100 steps; on safer ice than usual the only bound is the reward."""
        if self.map_name is not None:
            return 0.05
        return _BY_CHANCE.get(self.size or 4, 0.1) if self.frozen_probability <= 0.8 else 1.0

    def for_split(self, split: str) -> "FrozenLake":
        """The same lake with its maps restricted to one split."""
        return replace(self, split=split)

    def initial(self, rng: np.random.Generator) -> FrozenLakeState:
        """Draw a map of the split with a path from start to goal; the player stands on the start.

        Raises:
          UserError: 10,000 draws gave no such map.
        """
        if self.map_name is not None:
            return FrozenLakeState(MAPS[self.map_name], 0)
        side = self.size or 4
        for _ in range(10_000):
            frozen = rng.random((side, side)) < self.frozen_probability
            frozen[0, 0] = frozen[-1, -1] = True
            rows = _to_rows(frozen)
            if (self.split == "all" or split_of(rows) == self.split) and _has_path(rows):
                return FrozenLakeState(rows, 0)
        raise UserError(
            f"10,000 draws gave no solvable {side}x{side} lake for split '{self.split}'; "
            "raise game.size or game.frozen_probability."
        )

    def initial_outcomes(self) -> list[tuple[float, FrozenLakeState]]:
        """The one start of a fixed map.

        Raises:
          GameError: the map is drawn at random; enumerate from the states that `initial` gave.
        """
        if self.map_name is None:
            raise GameError("The starts of a random lake are too many to list; enumerate from drawn states.")
        return [(1.0, FrozenLakeState(MAPS[self.map_name], 0))]

    def players(self, state: FrozenLakeState) -> tuple[int, ...]:
        """Always the one player."""
        return (0,)

    def view(self, state: FrozenLakeState, player: int) -> FrozenLakeView:
        """The whole truth: the lake hides nothing."""
        row, column = divmod(state.position, len(state.rows[0]))
        return FrozenLakeView(state.rows, row, column, self.slippery)

    def legal(self, state: FrozenLakeState, player: int) -> tuple[str, ...]:
        """All four moves, everywhere."""
        return ACTIONS

    def step(self, state: FrozenLakeState, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Move; on slippery ice the direction is drawn from the three possible ones."""
        direction = _DIRECTION[actions[0]]
        if self.slippery:
            direction = (direction - 1 + int(rng.integers(3))) % 4
        return _moved(state.rows, state.position, direction)

    def outcomes(self, state: FrozenLakeState, actions: Mapping[int, str]) -> list[tuple[float, Transition]]:
        """The outcomes of a move: one, or three with probability 1/3 each in Gymnasium's order."""
        direction = _DIRECTION[actions[0]]
        if not self.slippery:
            return [(1.0, _moved(state.rows, state.position, direction))]
        return [(1 / 3, _moved(state.rows, state.position, (direction + turn) % 4)) for turn in (-1, 0, 1)]

    def heuristic(self, state: FrozenLakeState, player: int) -> str:
        """Right if that is no hole, else down if that is no hole, else left, else up: greed without foresight."""
        row, column = divmod(state.position, len(state.rows[0]))
        for action in ("right", "down", "left", "up"):
            to_row, to_column = row + _MOVES[_DIRECTION[action]][0], column + _MOVES[_DIRECTION[action]][1]
            inside = 0 <= to_row < len(state.rows) and 0 <= to_column < len(state.rows[0])
            if inside and state.rows[to_row][to_column] != "H":
                return action
        return "right"


_DIRECTION = {action: index for index, action in enumerate(ACTIONS)}
_NOTHING: Mapping[int, float] = {0: 0.0}
_GOAL: Mapping[int, float] = {0: 1.0}
_FAILED: Mapping[int, bool] = {0: False}
_WON: Mapping[int, bool] = {0: True}


@lru_cache(maxsize=1 << 16)
def _moved(rows: tuple[str, ...], position: int, direction: int) -> Transition:
    width = len(rows[0])
    row, column = divmod(position, width)
    row = min(max(row + _MOVES[direction][0], 0), len(rows) - 1)
    column = min(max(column + _MOVES[direction][1], 0), width - 1)
    state = FrozenLakeState(rows, row * width + column)
    cell = rows[row][column]
    if cell == "G":
        return Transition(state, _GOAL, terminated=True, success=_WON)
    if cell == "H":
        return Transition(state, _NOTHING, terminated=True, success=_FAILED)
    return Transition(state, _NOTHING)


def _to_rows(frozen: np.ndarray) -> tuple[str, ...]:
    cells = [["F" if cell else "H" for cell in row] for row in frozen.tolist()]
    cells[0][0], cells[-1][-1] = "S", "G"
    return tuple("".join(row) for row in cells)


@lru_cache(maxsize=1 << 16)
def split_of(rows: tuple[str, ...]) -> str:
    """The split that a map and its transpose belong to, by their common hash."""
    transposed = tuple("".join(column) for column in zip(*rows, strict=True))
    text = min("/".join(rows), "/".join(transposed))
    part = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") % len(_SPLIT_OF_PART)
    return _SPLIT_OF_PART[part]


@lru_cache(maxsize=1 << 16)
def _has_path(rows: tuple[str, ...]) -> bool:
    size = len(rows)
    frontier, seen = [(0, 0)], {(0, 0)}
    while frontier:
        row, column = frontier.pop()
        for down, right in _MOVES:
            cell = (row + down, column + right)
            if cell in seen or not (0 <= cell[0] < size and 0 <= cell[1] < size):
                continue
            kind = rows[cell[0]][cell[1]]
            if kind == "G":
                return True
            if kind != "H":
                seen.add(cell)
                frontier.append(cell)
    return False
