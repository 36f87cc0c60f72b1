"""Kuhn poker in words."""

from lapwing.games.kuhn_poker import ACTIONS, CARDS, KuhnPokerView

INSTRUCTIONS = (
    "Poker with the cards J , Q , K , one for each player ; the higher card takes the pot . Each player has put in one "
    "chip . bet puts in one more or calls a bet , pass checks or gives way to a bet ."
)


def text(view: KuhnPokerView) -> str:
    """The own card, and what was done so far by both in turn."""
    return " ".join(["card", view.card, "moves", *(view.moves or ("none",))])


def words(_: KuhnPokerView) -> set[str]:
    """The words of the text, for any cards and moves."""
    return {"card", "moves", "none", *CARDS, *ACTIONS}
