"""Renderers: from a view to the words that a language model reads.

Every word stands alone between blanks, so that a word-level tokenizer and a subword tokenizer both see clean units.
A renderer works on the views of all shipped games and prints any other view field by field.

What a text gives away: `grid` shows the bare board. `coordinates` adds what a causal model must otherwise search
for: on the lake the player's row and column and the cells nearby (a help that on a 4x4 map shows much of it), on
Snake signed offsets to the apples and what lies on the four neighbouring cells (close to a list of safe moves).
With `nearby=0` the neighbour cells are left out and the text is as lossless as the grid.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from lapwing.core.errors import UserError
from lapwing.core.types import Message, View
from lapwing.games.bandit import BanditView
from lapwing.games.frozen_lake import FrozenLakeView
from lapwing.games.snake import SnakeView

# Row and column of the four neighbours, in the order left, down, right, up.
_NEIGHBOURS = (("left", 0, -1), ("down", 1, 0), ("right", 0, 1), ("up", -1, 0))

_INSTRUCTIONS: dict[type, str] = {
    FrozenLakeView: (
        "Cross the frozen lake from S to G . F is safe ice , H is a hole that ends the game . "
        "Moves are left , down , right , up ."
    ),
    SnakeView: (
        "You steer a snake . Eat apples . Hitting a wall or a snake ends the game . "
        "Moves are up , down , left , right ."
    ),
    BanditView: "Pull one arm . Some arms pay more often than others .",
}


class Grid:
    """Shows the board as rows of symbols, and nothing else."""

    def __init__(self, *, instructions: bool = False) -> None:
        """Make the renderer.

        Args:
          instructions: put the rules of the game before the board, as a system message.
        """
        self.instructions = instructions

    def messages(self, view: View) -> list[Message]:
        """The messages that show a view."""
        return _messages(view, _GRID.get(type(view), _fields)(view), self.instructions)

    def words(self, view: View) -> set[str]:
        """The words that views like this one may need."""
        return _words(view, self.instructions)


class Coordinates:
    """Says where things are: rows and columns, signed offsets, cells nearby, and the whole map."""

    def __init__(self, *, nearby: int = 1, board: bool = True, instructions: bool = False) -> None:
        """Make the renderer.

        Args:
          nearby: how far the cells around the player are listed, in steps: 0, 1 or 2.
          board: show the whole lake as well (Snake lists all bodies and apples anyway).
          instructions: put the rules of the game before the text, as a system message.

        Raises:
          UserError: `nearby` is another number.
        """
        if nearby not in (0, 1, 2):
            raise UserError(f"renderer.nearby is a distance of 0, 1 or 2 steps, not {nearby}.")
        self.nearby = nearby
        self.board = board
        self.instructions = instructions

    def messages(self, view: View) -> list[Message]:
        """The messages that show a view."""
        if isinstance(view, FrozenLakeView):
            text = _lake_coordinates(view, self.nearby, self.board)
        elif isinstance(view, SnakeView):
            text = _snake_coordinates(view, self.nearby)
        else:
            text = _GRID.get(type(view), _fields)(view)
        return _messages(view, text, self.instructions)

    def words(self, view: View) -> set[str]:
        """The words that views like this one may need."""
        return _words(view, self.instructions)


def _messages(view: View, text: str, instructions: bool) -> list[Message]:
    user = Message(role="user", content=text)
    if instructions and type(view) in _INSTRUCTIONS:
        return [Message(role="system", content=_INSTRUCTIONS[type(view)]), user]
    return [user]


def _fields(view: Any) -> str:
    if not dataclasses.is_dataclass(view):
        return str(view)
    return " ".join(f"{f.name} : {getattr(view, f.name)} ." for f in dataclasses.fields(view))


def _lake_grid(view: FrozenLakeView) -> str:
    rows = [list(row) for row in view.rows]
    rows[view.row][view.column] = "P"
    ice = "slippery" if view.slippery else "dry"
    return f"{ice} lake : " + " / ".join(" ".join(row) for row in rows)


def _lake_coordinates(view: FrozenLakeView, nearby: int, board: bool) -> str:
    ice = "slippery" if view.slippery else "dry"
    lines = [f"{ice} lake :"]
    if board:
        lines.append(" / ".join(" ".join(row) for row in view.rows))
    lines.append(f"row {view.row} column {view.column}")
    if nearby >= 1:
        cells = [f"{name} {_cell(view, down, right)}" for name, down, right in _NEIGHBOURS]
        lines.append(" ".join(cells))
    if nearby >= 2:
        far = [(d, r) for d in range(-2, 3) for r in range(-2, 3) if abs(d) + abs(r) == 2]
        lines.append("around " + " ".join(_cell(view, down, right) for down, right in far))
    return " ".join(lines)


def _cell(view: FrozenLakeView, down: int, right: int) -> str:
    row, column = view.row + down, view.column + right
    if 0 <= row < len(view.rows) and 0 <= column < len(view.rows[0]):
        return view.rows[row][column]
    return "edge"


def _snake_grid(view: SnakeView) -> str:
    board = [["_"] * view.width for _ in range(view.height)]
    for x, y in view.apples:
        board[y][x] = "A"
    for body in view.others:
        for x, y in body:
            board[y][x] = "T"
        board[body[0][1]][body[0][0]] = "E"
    for x, y in view.body:
        board[y][x] = "T"
    if view.body:  # a dead snake has vanished from the board
        board[view.body[0][1]][view.body[0][0]] = "P"
    # The origin is at the bottom left, so the top row comes first.
    return "board : " + " / ".join(" ".join(row) for row in reversed(board))


def _signed(number: int) -> str:
    return f"{number:+d}" if number else "0"


def _snake_coordinates(view: SnakeView, nearby: int) -> str:
    x, y = view.body[0]
    parts = [f"at {x} {y}"]
    by_distance = sorted(view.apples, key=lambda a: (abs(a[0] - x) + abs(a[1] - y), a))
    for body in view.others:
        parts.append("enemy " + " ".join(f"{_signed(bx - x)} {_signed(by - y)}" for bx, by in body))
    parts.append(" ".join(["body", *(f"{_signed(bx - x)} {_signed(by - y)}" for bx, by in view.body[1:])]))
    if nearby:
        moves = (("up", 0, 1), ("down", 0, -1), ("left", -1, 0), ("right", 1, 0))
        parts.append(" ".join(f"{name} {_snake_cell(view, x + dx, y + dy)}" for name, dx, dy in moves))
    parts.append("apple " + " , ".join(f"{_signed(ax - x)} {_signed(ay - y)}" for ax, ay in by_distance))
    return " ".join(parts)


def _snake_cell(view: SnakeView, x: int, y: int) -> str:
    if not (0 <= x < view.width and 0 <= y < view.height):
        return "wall"
    if any((x, y) in body for body in (view.body, *view.others)):
        return "T"
    return "A" if (x, y) in view.apples else "_"


def _bandit(view: BanditView) -> str:
    return "arms " + " ".join(view.arms)


_GRID: dict[type, Callable[[Any], str]] = {
    FrozenLakeView: _lake_grid,
    SnakeView: _snake_grid,
    BanditView: _bandit,
}


def _words(view: View, instructions: bool) -> set[str]:
    words: set[str] = set()
    if isinstance(view, FrozenLakeView):
        numbers = {str(n) for n in range(max(len(view.rows), 8))}
        words |= {"dry", "slippery", "lake", ":", "/", "S", "F", "H", "G", "P", "edge", "row", "column", "around"}
        words |= numbers | {name for name, _, _ in _NEIGHBOURS}
    elif isinstance(view, SnakeView):
        largest = max(view.width, view.height)
        words |= {"board", ":", "/", "_", "A", "T", "E", "P", "at", "enemy", "body", "apple", ",", "wall"}
        words |= {str(n) for n in range(largest)} | {_signed(n) for n in range(-largest + 1, largest)}
        words |= {"up", "down", "left", "right"}
    elif isinstance(view, BanditView):
        words |= {"arms", *view.arms}
    else:
        words |= set(_fields(view).split())
    if instructions:
        words |= set(_INSTRUCTIONS.get(type(view), "").split())
    return words
