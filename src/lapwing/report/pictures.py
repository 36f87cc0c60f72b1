"""The board of a view as a picture that a page can draw: letters for cells, or a dialogue, or text."""

from collections.abc import Callable
from typing import Any

from lapwing.core.clean_text import printable
from lapwing.core.types import View
from lapwing.games.chain import ChainView
from lapwing.games.connect_four import ConnectFourView
from lapwing.games.frozen_lake import FrozenLakeView
from lapwing.games.key_door import KeyDoorView
from lapwing.games.snake import SnakeView
from lapwing.games.tic_tac_toe import TicTacToeView
from lapwing.games.tools.dialogue import ToolView, Turn
from lapwing.policies.renderers import Grid

Picture = dict[str, Any]

# Cells of a board by letter; report/replay.js draws them and style.css colours them.
CELLS = {
    ".": "floor",
    "i": "ice",
    "s": "start",
    "h": "hole",
    "g": "goal",
    "w": "wall",
    "k": "key",
    "d": "door",
    "u": "open door",
    "a": "apple",
    "n": "head",
    "b": "body",
    "m": "other head",
    "e": "other body",
    "x": "own mark",
    "o": "other mark",
}
_LONGEST_TEXT = 4000
_LARGEST_BOARD = 64 * 64


def picture(view: View) -> Picture:
    """Draw a view.

    Args:
      view: of any game; those of the shipped board games become boards, those of tool games dialogues, others text.

    Returns:
      `{"cells": [row, …], "at": [row, column] | null, "note": text}` with a letter of `CELLS` for each cell and the
      player's place where it is none of them, `{"question": text, "turns": [{"said", "status", "result"}, …]}`, or
      `{"text": text}`.
    """
    draw = _BOARDS.get(type(view))
    if draw is not None:
        drawn = draw(view)
        if sum(map(len, drawn["cells"])) <= _LARGEST_BOARD:
            return drawn
    if isinstance(view, ToolView):
        return {"question": _cut(view.question), "turns": [_turn(turn) for turn in view.turns]}
    return {"text": _cut("\n\n".join(message["content"] for message in Grid().messages(view)))}


def _lake(view: FrozenLakeView) -> Picture:
    letters = str.maketrans("SFHG", "sihg")
    ice = "slippery ice" if view.slippery else "dry ice"
    where = f"{ice}; the player is in row {view.row}, column {view.column}"
    return {"cells": [row.translate(letters) for row in view.rows], "at": [view.row, view.column], "note": where}


def _key_door(view: KeyDoorView) -> Picture:
    letters = str.maketrans("_WKDGO", ".wkdgu")
    hand = "with the key" if view.carrying else "without the key"
    where = f"the player is in row {view.row}, column {view.column}, {hand}"
    rows = ["".join(row).translate(letters) for row in view.rows]
    return {"cells": rows, "at": [view.row, view.column], "note": where}


def _snake(view: SnakeView) -> Picture:
    board = [["."] * view.width for _ in range(view.height)]

    def put(letter: str, cells: Any) -> None:
        for x, y in cells:
            board[y][x] = letter

    put("a", view.apples)
    for body in view.others:
        put("e", body)
        put("m", body[:1])
    put("b", view.body)
    put("n", view.body[:1])
    # The origin is at the bottom left, so the top row comes first.
    note = f"a snake of {len(view.body)} cells" if view.body else "the snake is dead"
    return {"cells": ["".join(row) for row in reversed(board)], "at": None, "note": note}


def _tic_tac_toe(view: TicTacToeView) -> Picture:
    cells = view.cells.translate(str.maketrans("PE_", "xo."))
    return {"cells": [cells[6:9], cells[3:6], cells[0:3]], "at": None, "note": "own marks are crosses"}


def _connect_four(view: ConnectFourView) -> Picture:
    cells = view.cells.translate(str.maketrans("PE_", "xo."))
    starts = reversed(range(0, len(cells), view.columns))
    rows = [cells[start : start + view.columns] for start in starts]
    return {"cells": rows, "at": None, "note": "own discs are crosses"}


def _chain(view: ChainView) -> Picture:
    where = f"cell {view.cell} of {view.length}, {view.step} decisions made"
    return {"cells": ["." * view.length + "g"], "at": [0, view.cell], "note": where}


_BOARDS: dict[type, Callable[[Any], Picture]] = {
    FrozenLakeView: _lake,
    KeyDoorView: _key_door,
    SnakeView: _snake,
    TicTacToeView: _tic_tac_toe,
    ConnectFourView: _connect_four,
    ChainView: _chain,
}


def _turn(turn: Turn) -> dict[str, Any]:
    result = turn.result
    return {
        "said": _cut(str(turn.action)),
        "status": None if result is None else result.status,
        "result": None if result is None else _cut(result.text),
    }


def _cut(text: str) -> str:
    shown = printable(text[:_LONGEST_TEXT])
    return shown if len(text) <= _LONGEST_TEXT else f"{shown}… ({len(text) - _LONGEST_TEXT:,} more characters)"
