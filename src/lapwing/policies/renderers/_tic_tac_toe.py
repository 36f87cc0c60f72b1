"""Tic-tac-toe in words."""

from lapwing.games.tic_tac_toe import CELLS, TicTacToeView

INSTRUCTIONS = (
    "Get three of your marks P in a row , a column or a diagonal before the other player E does . "
    "A move is the name of a free cell , a column a , b , c and a row 1 , 2 , 3 ."
)


def grid(view: TicTacToeView) -> str:
    """The board, row 3 first: P own marks, E the other player's."""
    rows = [view.cells[start : start + 3] for start in (0, 3, 6)]
    return "board : " + " / ".join(" ".join(row) for row in reversed(rows))


def coordinates(view: TicTacToeView) -> str:
    """The names of the own cells, of the other player's, and of the free ones."""
    lists = (("own", "P"), ("enemy", "E"), ("free", "_"))
    named = [(name, [cell for cell, mark in zip(CELLS, view.cells, strict=True) if mark == m]) for name, m in lists]
    return " ".join(" ".join([name, *cells]) for name, cells in named)


def words(view: TicTacToeView) -> set[str]:
    """Both renderings' words, for a board of any marks."""
    return {"board", ":", "/", "P", "E", "_", "own", "enemy", "free", *CELLS, *view.cells}
