"""The chain in words."""

from lapwing.games.chain import ChainView

INSTRUCTIONS = "Walk to the end of the chain . right takes you one cell on , left back to the first cell ."


def text(view: ChainView) -> str:
    """Where the walker stands, and how many decisions were made."""
    return f"cell {view.cell} step {view.step} of {view.length}"


def words(view: ChainView) -> set[str]:
    """The words of the text, for chains up to the length of the view's."""
    return {"cell", "step", "of", *(str(number) for number in range(view.length + 1))}
