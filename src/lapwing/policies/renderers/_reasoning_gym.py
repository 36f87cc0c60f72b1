"""Questions of reasoning-gym: as they are, or with every word, number and mark by itself."""

from lapwing.games.adapters._words import split_words
from lapwing.games.adapters.reasoning_gym import ReasoningGymView

INSTRUCTIONS = "Answer the question . Say the answer and nothing else ."


def text(view: ReasoningGymView) -> str:
    """The question as it is."""
    return view.text


def coordinates(view: ReasoningGymView) -> str:
    """The question with blanks between words, numbers and marks, for a model with one token a word."""
    return " ".join(split_words(view.text))


def words(view: ReasoningGymView) -> set[str]:
    """The words of both; those of other questions are the game's to say."""
    return {*view.text.split(), *split_words(view.text)}
