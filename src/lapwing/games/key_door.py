"""Key and door: a goal behind a locked door, with nothing paid on the way."""

import hashlib
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np

from lapwing.core.errors import GameError, UserError, nearest
from lapwing.core.types import Transition

ACTIONS = ("left", "down", "right", "up")
_MOVES: dict[str, tuple[int, int]] = {"left": (0, -1), "down": (1, 0), "right": (0, 1), "up": (-1, 0)}

# Out of 20 parts of all layouts: 4 test, 2 development, 14 train.
_SPLIT_OF_PART = ("test",) * 4 + ("development",) * 2 + ("train",) * 14
SPLITS = ("all", "train", "development", "test")
# By size, how often random play reaches the goal in 100 steps at most: exact means over 150 layouts are 0.85, 0.56,
# 0.33, 0.20, and from there on less.
_BY_CHANCE = {3: 0.9, 4: 0.65, 5: 0.45}

Rows = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyDoorState:
    """Where everything lies, and how far the player came.

    Attributes:
      rows: the layout row by row: S start, `_` floor, W wall, K key, D door, G goal.
      position: the player's cell, counted row by row.
      carrying: the key is in the player's hand.
      opened: the door was opened, which used the key up.
    """

    rows: Rows
    position: int
    carrying: bool
    opened: bool


@dataclass(frozen=True, slots=True)
class KeyDoorView:
    """All that there is to know: the rooms as they are now (`_` W K D G, O for an open door), and the player."""

    rows: Rows
    row: int
    column: int
    carrying: bool


@dataclass(frozen=True)
class KeyDoor:
    """Fetch the key, open the door with it, and reach the goal behind the door.

    | action | meaning |
    | --- | --- |
    | left, down, right, up | one cell; a move into a wall, the border or the locked door stays in place |

    View: both rooms as they are now, the player's row and column from the top left, and whether the key is held.

    Start: a wall of one column, drawn, divides the square into a left and a right room; a drawn cell of the wall is
    the door. Start and key lie on different cells of the left room, the goal in the right room, all drawn
    uniformly. A move onto the key takes it. A move into the door with the key in hand opens it, enters it and uses
    the key up; from then on the door is floor. The game ends on the goal, with success.

    Reward: `step_reward` for every decision, and 1 besides on reaching the goal; key and door pay nothing. The parts
    `key` and `door` say when they were taken and opened.

    The layout is drawn from the seed inside `initial`. `split` keeps train, development and test layouts apart by a
    hash of the layout and its mirror image (upside down) together, so that neither is ever in two splits. One layout
    has at most 3 · size² states.

    Reference: a game of Lapwing's own, in the manner of MiniGrid's DoorKey.
      https://minigrid.farama.org/environments/minigrid/DoorKeyEnv/

    Attributes:
      size: cells along a side, 3 to 16.
      step_reward: reward of every decision.
      split: "all", "train", "development" or "test".
    """

    size: int = 5
    step_reward: float = 0.0
    split: str = "all"

    num_players: ClassVar[int] = 1
    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 3 <= self.size <= 16:
            raise UserError(f"The rooms have 3 to 16 cells along a side, not {self.size}; set game.size.")
        reward = float(self.step_reward)
        if not math.isfinite(reward):
            raise UserError(f"A reward is a finite number, not {reward}; set game.step_reward.")
        if self.split not in SPLITS:
            raise UserError(f"There is no split '{self.split}'; {nearest(self.split, SPLITS)}")
        object.__setattr__(self, "step_reward", reward)

    @property
    def reward_range(self) -> tuple[float, float]:
        """A step, and a step that reaches the goal."""
        return self.step_reward, self.step_reward + 1.0

    @property
    def null_ceiling(self) -> float:
        """What random play gets at most in 100 steps, of which it takes one at least."""
        return _BY_CHANCE.get(self.size, 0.3) + max(self.step_reward, 100 * self.step_reward)

    def for_split(self, split: str) -> "KeyDoor":
        """The same game with its layouts restricted to one split."""
        return replace(self, split=split)

    def initial(self, rng: np.random.Generator) -> KeyDoorState:
        """Draw a layout of the split; the player stands on the start.

        Raises:
          UserError: 10,000 draws gave no such layout.
        """
        for _ in range(10_000):
            rows, start = self._drawn(rng)
            if self.split == "all" or split_of(rows) == self.split:
                return KeyDoorState(rows, start, carrying=False, opened=False)
        raise UserError(f"10,000 draws gave no layout of size {self.size} for split '{self.split}'; raise game.size.")

    def initial_outcomes(self) -> list[tuple[float, KeyDoorState]]:
        """There is no such list.

        Raises:
          GameError: always; enumerate from the states that `initial` gave.
        """
        raise GameError("The layouts of key and door are too many to list; enumerate from drawn states.")

    def players(self, state: KeyDoorState) -> tuple[int, ...]:
        """Always the one player."""
        return (0,)

    def view(self, state: KeyDoorState, player: int) -> KeyDoorView:
        """The whole truth: the rooms hide nothing."""
        row, column = divmod(state.position, self.size)
        return KeyDoorView(_shown(state.rows, state.carrying, state.opened), row, column, state.carrying)

    def legal(self, state: KeyDoorState, player: int) -> tuple[str, ...]:
        """All four moves, everywhere."""
        return ACTIONS

    def step(self, state: KeyDoorState, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Move, take the key, open the door."""
        return _moved(state, actions[0], self.step_reward)

    def outcomes(self, state: KeyDoorState, actions: Mapping[int, str]) -> list[tuple[float, Transition]]:
        """The one outcome: once the layout is drawn, nothing is left to chance."""
        return [(1.0, _moved(state, actions[0], self.step_reward))]

    def heuristic(self, state: KeyDoorState, player: int) -> str:
        """The first move of a shortest way to what is next: key, door or goal; this is best. Ties go to the earlier."""
        target = "G" if state.opened else ("D" if state.carrying else "K")
        return _first_move(state, target)

    def _drawn(self, rng: np.random.Generator) -> tuple[Rows, int]:
        size = self.size
        wall = int(rng.integers(1, size - 1))
        cells = [["_"] * size for _ in range(size)]
        for row in cells:
            row[wall] = "W"
        cells[int(rng.integers(size))][wall] = "D"
        start, key = rng.permutation(size * wall)[:2].tolist()
        goal = int(rng.integers(size * (size - 1 - wall)))
        for symbol, (row, column) in (
            ("S", divmod(start, wall)),
            ("K", divmod(key, wall)),
            ("G", (goal // (size - 1 - wall), wall + 1 + goal % (size - 1 - wall))),
        ):
            cells[row][column] = symbol
        return tuple("".join(row) for row in cells), start // wall * size + start % wall


@lru_cache(maxsize=1 << 16)
def split_of(rows: Rows) -> str:
    """The split that a layout and its mirror image belong to, by their common hash."""
    text = min("/".join(rows), "/".join(reversed(rows)))
    part = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") % len(_SPLIT_OF_PART)
    return _SPLIT_OF_PART[part]


@lru_cache(maxsize=1 << 14)
def _shown(rows: Rows, carrying: bool, opened: bool) -> Rows:
    key = "_" if carrying or opened else "K"
    door = "O" if opened else "D"
    return tuple(row.replace("S", "_").replace("K", key).replace("D", door) for row in rows)


def _landing(state: KeyDoorState, cell: int, action: str) -> int:
    """Where a move from a cell leads with what the player has: the same cell where it cannot go."""
    size = len(state.rows)
    row, column = cell // size + _MOVES[action][0], cell % size + _MOVES[action][1]
    if not (0 <= row < size and 0 <= column < size):
        return cell
    kind = state.rows[row][column]
    is_blocked = kind == "W" or (kind == "D" and not (state.carrying or state.opened))
    return cell if is_blocked else row * size + column


@lru_cache(maxsize=1 << 16)
def _moved(state: KeyDoorState, action: str, step_reward: float) -> Transition:
    position = _landing(state, state.position, action)
    kind = _kind(state, position)
    takes = kind == "K" and not (state.carrying or state.opened)
    opens = kind == "D" and not state.opened
    after = KeyDoorState(
        state.rows, position, carrying=(state.carrying or takes) and not opens, opened=state.opened or opens
    )
    parts = {**({"key": 1.0} if takes else {}), **({"door": 1.0} if opens else {})}
    if kind == "G":
        return Transition(after, {0: step_reward + 1.0}, terminated=True, success={0: True}, parts=parts)
    return Transition(after, {0: step_reward}, parts=parts)


def _kind(state: KeyDoorState, cell: int) -> str:
    return state.rows[cell // len(state.rows)][cell % len(state.rows)]


@lru_cache(maxsize=1 << 16)
def _first_move(state: KeyDoorState, target: str) -> str:
    frontier: deque[tuple[int, str]] = deque([(state.position, "")])
    seen = {state.position}
    while frontier:
        cell, first = frontier.popleft()
        for action in ACTIONS:
            onward = _landing(state, cell, action)
            if onward in seen:
                continue
            if _kind(state, onward) == target:
                return first or action
            seen.add(onward)
            frontier.append((onward, first or action))
    return ACTIONS[0]  # the target is under the player's feet, or there is none
