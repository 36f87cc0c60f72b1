"""Environments of Gymnasium in the words of their description."""

from lapwing.games.adapters._environments import GymnasiumView

INSTRUCTIONS = "Choose an action that brings the highest reward in the end ."


def text(view: GymnasiumView) -> str:
    """The description."""
    return view.text


def words(view: GymnasiumView) -> set[str]:
    """The words of this view; the game tells those of the others."""
    return set(view.text.split())
