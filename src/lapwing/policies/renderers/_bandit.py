"""The bandit in words."""

from lapwing.games.bandit import BanditView

INSTRUCTIONS = "Pull one arm . Some arms pay more often than others ."


def text(view: BanditView) -> str:
    """The names of the arms."""
    return "arms " + " ".join(view.arms)


def words(view: BanditView) -> set[str]:
    """The names of the arms, and what is said before them."""
    return {"arms", *view.arms}
