"""Boards with colours where there is a terminal."""

import re

from lapwing.console.lines import is_terminal, say
from lapwing.core.clean_text import printable

# By the letter of a cell, whichever the game: player, goal and apple, key and door, hole and enemy, floor and wall.
_STYLES = {"P": "bold cyan", "G": "bold green", "A": "bold green", "K": "bold yellow", "D": "bold yellow"}
_STYLES |= {"H": "bold red", "E": "bold red", "F": "dim", "S": "dim", "_": "dim", "W": "dim"}
_CELL = re.compile(r"(?<=\s)[A-Z_](?=\s|$)")


def say_board(text: str) -> None:
    """Write a board: at a terminal the cells of its rows, which begin with two blanks, in colour."""
    if not is_terminal():
        say(text)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in printable(text).split("\n"):
        shown = Text(line)
        if line.startswith("  "):
            for cell in _CELL.finditer(line):
                shown.stylize(_STYLES.get(cell.group(), ""), *cell.span())
        console.print(printable(line) if not shown.spans else shown, soft_wrap=True, markup=False)
