"""The commands for those who write games."""

from typing import Annotated

import typer

from lapwing.cli.options import app
from lapwing.core.errors import UserError

GameSets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the game; may be repeated.")
]


@app.command("check-game")
def check_game(
    game: Annotated[
        str, typer.Argument(metavar="GAME", help="A shipped game, or module:Class, in the current folder or installed.")
    ],
    settings: GameSets = None,
    matches: Annotated[int, typer.Option(help="Random matches that are looked at.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the first match; the others follow.")] = 0,
    max_steps: Annotated[int, typer.Option(help="Matches are cut after so many steps.")] = 100,
    deadline_seconds: Annotated[float, typer.Option(help="What one call of the game may take.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Look whether a game keeps its promises; its code runs because it is named here."""
    from lapwing.console import check_at_terminal

    broken = check_at_terminal(
        game,
        settings or [],
        matches=matches,
        seed=seed,
        max_steps=max_steps,
        deadline_seconds=deadline_seconds,
        as_json=as_json,
    )
    if broken:
        many = "a promise" if broken == 1 else f"{broken} promises"
        raise UserError(f"{game} breaks {many} of a game; the report on stdout says which, and how to see it again.")
