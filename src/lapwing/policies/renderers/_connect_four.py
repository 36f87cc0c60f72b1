"""Connect four in words."""

from string import ascii_lowercase

from lapwing.games.connect_four import ConnectFourView

INSTRUCTIONS = (
    "Drop discs into columns . Get enough of your discs P in a line , across , upwards or aslant , before the other "
    "player E does . A move is the name of a column ."
)


def grid(view: ConnectFourView) -> str:
    """The board, top row first: P own discs, E the other player's."""
    starts = range(0, len(view.cells), view.columns)
    rows = [view.cells[start : start + view.columns] for start in starts]
    return "board : " + " / ".join(" ".join(row) for row in reversed(rows))


def coordinates(view: ConnectFourView) -> str:
    """Column by column its discs from the bottom up, without the free cells."""
    stacks = [view.cells[column :: view.columns].replace("_", "") for column in range(view.columns)]
    return " ".join(" ".join([name, *stack]) for name, stack in zip(ascii_lowercase, stacks, strict=False))


def words(view: ConnectFourView) -> set[str]:
    """Both renderings' words, for boards of as many columns."""
    return {"board", ":", "/", "P", "E", "_", *ascii_lowercase[: view.columns]}
