"""Renderers: from a view to the words that a language model reads.

Every word stands alone between blanks, so that a word-level tokenizer and a subword tokenizer both see clean units.
A renderer works on the views of all shipped games and prints any other view field by field.

What a text gives away: `grid` shows the bare board. `coordinates` adds what a causal model must otherwise search
for: on the lake the player's row and column and the cells nearby (a help that on a 4x4 map shows much of it), on
Snake signed offsets to the apples and what lies on the four neighbouring cells (close to a list of safe moves), among
rooms signed offsets to key, door and goal, at tic-tac-toe the names of the cells instead of their places, at connect
four each column's discs instead of the board, in a matrix game the payoffs.
With `nearby=0` the neighbour cells are left out and the text is as lossless as the grid, with `bodies=False` on Snake
it is not: what lies beyond the neighbours may hide a body.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from lapwing.core.errors import UserError
from lapwing.core.types import Message, View
from lapwing.games.adapters._environments import GymnasiumView
from lapwing.games.adapters._textworld_views import TextworldView
from lapwing.games.adapters.reasoning_gym import ReasoningGymView
from lapwing.games.bandit import BanditView
from lapwing.games.bandit_suite import BanditSuiteView
from lapwing.games.chain import ChainView
from lapwing.games.connect_four import ConnectFourView
from lapwing.games.contextual_bandit import ContextualBanditView
from lapwing.games.expert_advice import ExpertAdviceView
from lapwing.games.frozen_lake import FrozenLakeView
from lapwing.games.key_door import KeyDoorView
from lapwing.games.kuhn_poker import KuhnPokerView
from lapwing.games.matrix_game import MatrixGameView
from lapwing.games.recall import RecallView
from lapwing.games.snake import SnakeView
from lapwing.games.tic_tac_toe import TicTacToeView
from lapwing.policies.renderers import (
    _bandit,
    _bandit_suite,
    _chain,
    _connect_four,
    _expert_advice,
    _gymnasium,
    _key_door,
    _kuhn_poker,
    _lake,
    _matrix_game,
    _reasoning_gym,
    _recall,
    _snake,
    _textworld,
    _tic_tac_toe,
)
from lapwing.policies.renderers._bandit_suite import Bandits
from lapwing.policies.renderers._tool_dialogue import ToolDialogue

__all__ = ["Bandits", "Coordinates", "Grid", "ToolDialogue"]

# Each game's module says the rules (INSTRUCTIONS) and the words; a game without a board has one text for both.
_MODULES: dict[type, Any] = {
    FrozenLakeView: _lake,
    SnakeView: _snake,
    BanditView: _bandit,
    BanditSuiteView: _bandit_suite,
    ContextualBanditView: _bandit_suite,
    ChainView: _chain,
    ExpertAdviceView: _expert_advice,
    KeyDoorView: _key_door,
    RecallView: _recall,
    TicTacToeView: _tic_tac_toe,
    ConnectFourView: _connect_four,
    KuhnPokerView: _kuhn_poker,
    MatrixGameView: _matrix_game,
    GymnasiumView: _gymnasium,
    ReasoningGymView: _reasoning_gym,
    TextworldView: _textworld,
}
_GRIDS: dict[type, Callable[[Any], str]] = {
    FrozenLakeView: _lake.grid,
    SnakeView: _snake.grid,
    BanditView: _bandit.text,
    BanditSuiteView: _bandit_suite.text,
    ContextualBanditView: _bandit_suite.text,
    ChainView: _chain.text,
    ExpertAdviceView: _expert_advice.text,
    KeyDoorView: _key_door.grid,
    RecallView: _recall.text,
    TicTacToeView: _tic_tac_toe.grid,
    ConnectFourView: _connect_four.grid,
    KuhnPokerView: _kuhn_poker.text,
    MatrixGameView: _matrix_game.text,
    GymnasiumView: _gymnasium.text,
    ReasoningGymView: _reasoning_gym.text,
    TextworldView: _textworld.text,
}
# Those whose text in coordinates has no settings.
_COORDINATES: dict[type, Callable[[Any], str]] = {
    ExpertAdviceView: _expert_advice.coordinates,
    TicTacToeView: _tic_tac_toe.coordinates,
    ConnectFourView: _connect_four.coordinates,
    MatrixGameView: _matrix_game.coordinates,
    ReasoningGymView: _reasoning_gym.coordinates,
    TextworldView: _textworld.coordinates,
}


class Grid:
    """Shows the board as rows of symbols, and nothing else."""

    def __init__(self, *, instructions: bool | str = False, reply_format: str = "") -> None:
        """Make the renderer.

        Args:
          instructions: put the rules of the game, or this text, before the board, as a system message.
          reply_format: what is said after the board, on a line of its own: how to reply.
        """
        self.instructions = instructions
        self.reply_format = reply_format

    def messages(self, view: View) -> list[Message]:
        """The messages that show a view."""
        return _messages(view, _GRIDS.get(type(view), _fields)(view), self.instructions, self.reply_format)

    def words(self, view: View) -> set[str]:
        """The words that views like this one may need."""
        return _words(view, self.instructions, self.reply_format)


class Coordinates:
    """Says where things are: rows and columns, signed offsets, cells nearby, and the whole map."""

    def __init__(
        self,
        *,
        nearby: int = 1,
        board: bool = True,
        bodies: bool = True,
        instructions: bool | str = False,
        reply_format: str = "",
    ) -> None:
        """Make the renderer.

        Args:
          nearby: how far the cells around the player are listed, in steps: 0, 1 or 2.
          board: show the whole lake as well (Snake lists all bodies and apples anyway).
          bodies: list every cell of all snakes; if not, only the head of another snake is listed.
          instructions: put the rules of the game, or this text, before the view, as a system message.
          reply_format: what is said after the view, on a line of its own: how to reply.

        Raises:
          UserError: `nearby` is another number.
        """
        if nearby not in (0, 1, 2):
            raise UserError(f"renderer.nearby is a distance of 0, 1 or 2 steps, not {nearby}.")
        self.nearby = nearby
        self.board = board
        self.bodies = bodies
        self.instructions = instructions
        self.reply_format = reply_format

    def messages(self, view: View) -> list[Message]:
        """The messages that show a view."""
        return _messages(view, self._text(view), self.instructions, self.reply_format)

    def words(self, view: View) -> set[str]:
        """The words that views like this one may need."""
        return _words(view, self.instructions, self.reply_format)

    def _text(self, view: View) -> str:
        if isinstance(view, FrozenLakeView):
            return _lake.coordinates(view, nearby=self.nearby, board=self.board)
        if isinstance(view, SnakeView):
            return _snake.coordinates(view, nearby=self.nearby, bodies=self.bodies)
        if isinstance(view, KeyDoorView):
            return _key_door.coordinates(view, nearby=self.nearby)
        return (_GRIDS | _COORDINATES).get(type(view), _fields)(view)


def _messages(view: View, text: str, instructions: bool | str, reply_format: str) -> list[Message]:
    user = Message(role="user", content=f"{text}\n{reply_format}" if reply_format else text)
    said = _instructions(view, instructions)
    return [Message(role="system", content=said), user] if said else [user]


def _instructions(view: View, instructions: bool | str) -> str:
    if isinstance(instructions, str):
        return instructions
    return _MODULES[type(view)].INSTRUCTIONS if instructions and type(view) in _MODULES else ""


def _fields(view: Any) -> str:
    if not dataclasses.is_dataclass(view):
        return str(view)
    names = [field.name for field in dataclasses.fields(view)]
    if names == ["text"]:  # words already
        return str(getattr(view, names[0]))
    return " ".join(f"{name} : {getattr(view, name)} ." for name in names)


def _words(view: View, instructions: bool | str, reply_format: str) -> set[str]:
    module = _MODULES.get(type(view))
    own = set(_fields(view).split()) if module is None else module.words(view)
    return own | set(_instructions(view, instructions).split()) | set(reply_format.split())
