"""Prediction with expert advice in words."""

from string import ascii_lowercase

from lapwing.games.expert_advice import ExpertAdviceView

INSTRUCTIONS = "Follow one expert in each round . Losses so far are shown . Lose as little as you can ."


def text(view: ExpertAdviceView) -> str:
    """The round, and what each expert lost so far."""
    lost = " ".join(f"{name} {loss}" for name, loss in zip(ascii_lowercase, view.losses, strict=False))
    return f"round {view.round} of {view.rounds} lost {lost}"


def coordinates(view: ExpertAdviceView) -> str:
    """What each expert lost more than the leader: all that matters for who leads, and no numbers to compare."""
    least = min(view.losses)
    behind = " ".join(f"{name} {loss - least}" for name, loss in zip(ascii_lowercase, view.losses, strict=False))
    return f"round {view.round} of {view.rounds} behind {behind}"


def words(view: ExpertAdviceView) -> set[str]:
    """The words of the text, for matches with as many experts and rounds."""
    numbers = {str(number) for number in range(view.rounds + 1)}
    return {"round", "of", "lost", "behind", *ascii_lowercase[: len(view.losses)], *numbers}
