"""Views as a person at a terminal likes to see them: boards row by row, dialogues turn by turn, others by field."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from lapwing.core.clean_text import printable
from lapwing.core.storage import to_plain
from lapwing.core.types import View
from lapwing.games.bandit import BanditView
from lapwing.games.chain import ChainView
from lapwing.games.connect_four import ConnectFourView
from lapwing.games.expert_advice import ExpertAdviceView
from lapwing.games.frozen_lake import FrozenLakeView
from lapwing.games.key_door import KeyDoorView
from lapwing.games.kuhn_poker import KuhnPokerView
from lapwing.games.matrix_game import MatrixGameView
from lapwing.games.snake import SnakeView
from lapwing.games.tic_tac_toe import TicTacToeView
from lapwing.games.tools.dialogue import ToolView
from lapwing.policies.renderers import Grid
from lapwing.report.dialogue import told

_VIEWS = (
    *(BanditView, ChainView, ConnectFourView, ExpertAdviceView, FrozenLakeView, KeyDoorView, KuhnPokerView),
    *(MatrixGameView, SnakeView, TicTacToeView),
)
_LONGEST_TEXT = 4_000
# Of a picture's cells, as the boards of renderers write them: floor and ice, start, hole, goal, …
_LETTERS = {".": "_", "i": "F", "s": "S", "h": "H", "g": "G", "w": "W", "k": "K", "d": "D", "u": "O", "a": "A"}
_LETTERS |= {"n": "P", "b": "b", "m": "E", "e": "e", "x": "P", "o": "E"}


def board(view: View) -> str:
    """A view: the grid renderer's text, one row a line; what is new in a dialogue; a line a field of other games."""
    if isinstance(view, ToolView):
        return told(view)
    if not isinstance(view, _VIEWS):
        return recorded_board(to_plain(view))
    text = Grid().messages(view)[-1]["content"]
    title, colon, rows = text.partition(" : ")
    return text if not colon else "\n".join([title, *(f"  {row}" for row in rows.split(" / "))])


def recorded_board(view: Any) -> str:
    """The same of a view as `episodes/*.jsonl` holds it; of a game of one's own every field is a line.

    Args:
      view: plain JSON, from a file that anybody may have written.
    """
    if isinstance(view, Mapping):
        if isinstance(view.get("turns"), list) and "question" in view:
            return _told(view)
        for kind in _VIEWS:
            if {field.name for field in dataclasses.fields(kind)} == set(view):
                try:
                    return board(kind(**{name: _frozen(value) for name, value in view.items()}))
                except (TypeError, ValueError, IndexError, KeyError, AttributeError):
                    break  # the names of a known view, and something else in it
        return "\n".join(f"{name}: {_field(value)}" for name, value in view.items())
    return _field(view)


def pictured_board(picture: Mapping[str, Any]) -> str:
    """The same of a picture as `replay.json` holds it.

    Args:
      picture: what `lapwing.report.pictures.picture` makes of a view.
    """
    if "cells" in picture:
        rows = [[_LETTERS.get(letter, letter) for letter in str(row)] for row in picture["cells"]]
        if picture.get("at") is not None:
            row, column = picture["at"]
            rows[row][column] = "P"
        return "\n".join([_field(picture["note"]), *(f"  {' '.join(row)}" for row in rows)])
    if "question" in picture:
        return _told(picture)
    return _field(picture["text"])


def _told(view: Mapping[str, Any]) -> str:
    """The question, or what came last in the dialogue."""
    if not view["turns"]:
        return f"Question: {_indented(view['question'])}"
    last = view["turns"][-1]
    result = last.get("result") if isinstance(last, Mapping) else None
    if result is None:
        return ""
    # A picture has the status beside the text, and a view has both in the result.
    status, text = (
        (result.get("status"), result.get("text")) if isinstance(result, Mapping) else (last["status"], result)
    )
    return f"{'result' if status == 'ok' else 'error'}: {_indented(text)}"


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _field(value: Any) -> str:
    return _indented(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _indented(value: Any) -> str:
    """Further lines begin with blanks, so that none of them looks like a line of ours."""
    text = str(value)
    cut = f"… ({len(text) - _LONGEST_TEXT:,} more characters)" if len(text) > _LONGEST_TEXT else ""
    return printable(text[:_LONGEST_TEXT]).replace("\n", "\n  ") + cut
