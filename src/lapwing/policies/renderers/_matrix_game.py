"""Repeated matrix games in words."""

from lapwing.games.matrix_game import MatrixGameView

INSTRUCTIONS = (
    "You and another player choose an action at the same time , in each round . The payoffs say what each of your "
    "actions earns against each of the other's . Earn as much as you can ."
)


def text(view: MatrixGameView) -> str:
    """The round, and what is seen of the rounds before, own action first."""
    parts = ["round", str(view.round), "of", str(view.rounds)]
    if view.own:
        parts += ["played", *(word for pair in zip(view.own, view.other, strict=True) for word in pair)]
    if view.own_counts:
        parts += ["own", *_counted(view.own_actions, view.own_counts)]
        parts += ["other", *_counted(view.other_actions, view.other_counts)]
    return " ".join(parts)


def coordinates(view: MatrixGameView) -> str:
    """The same with the payoffs before it: for each own action what it earns against each of the other's, in order."""
    table = [
        " ".join([action, *(f"{payoff:g}" for payoff in row)])
        for action, row in zip(view.own_actions, view.payoffs, strict=True)
    ]
    return " ".join(["payoffs", *table, text(view)])


def words(view: MatrixGameView) -> set[str]:
    """Both renderings' words, for matches of as many rounds; the payoffs of the other seat are the game's to say."""
    numbers = {str(number) for number in range(view.rounds + 1)}
    payoffs = {f"{payoff:g}" for row in view.payoffs for payoff in row}
    said = {"round", "of", "played", "own", "other", "payoffs", *view.own_actions, *view.other_actions}
    return said | numbers | payoffs


def _counted(actions: tuple[str, ...], counts: tuple[int, ...]) -> list[str]:
    return [word for action, count in zip(actions, counts, strict=True) for word in (action, str(count))]
