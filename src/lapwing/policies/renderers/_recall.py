"""Recall in words."""

from lapwing.games.recall import SIGNS, RecallView

INSTRUCTIONS = (
    "A sign names a colour . Walk forward to the doors at the end of the corridor , and take the door of that colour ."
)


def text(view: RecallView) -> str:
    """The cell, and what there is to see: the sign, nothing, or the doors."""
    seen = f"sign {view.sign}" if view.sign else "doors" if view.cell == view.length else "corridor"
    return f"cell {view.cell} of {view.length} {seen}"


def words(view: RecallView) -> set[str]:
    """The words of the text, for corridors of this length and every colour."""
    return {"cell", "of", "sign", "corridor", "doors", *SIGNS, *(str(cell) for cell in range(view.length + 1))}
