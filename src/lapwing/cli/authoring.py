"""The commands for those who write games."""

from pathlib import Path
from typing import Annotated

import typer

from lapwing.cli.options import app, put
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
    limit_seconds: Annotated[
        float | None,
        typer.Option(
            help="A call that takes this long is ended; 30 times what it may take, at least 10.", show_default=False
        ),
    ] = None,
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
        limit_seconds=limit_seconds,
        as_json=as_json,
    )
    if broken:
        many = "a promise" if broken == 1 else f"{broken} promises"
        raise UserError(f"{game} breaks {many} of a game; the report on stdout says which, and how to see it again.")


@app.command("new-game")
def new_game(
    name: Annotated[str, typer.Argument(help="Of the game's module, in snake case, such as my_game.")],
    folder: Annotated[Path, typer.Option(help="Where to; made if it is not there.")] = Path(),
    players: Annotated[int, typer.Option(help="How many seats the game has, 1 to 8.")] = 1,
) -> None:
    """Write a small game with its renderer, test and recipe, to be changed into one's own."""
    from lapwing.api.new_game import new_game as write

    written = write(name, folder=folder, players=players)
    for path in written.files:
        put(f"wrote {path}")
    here = "" if folder.resolve() == Path.cwd() else f", in {folder}"
    put(f"\nNext{here}:")
    for command in written.commands:
        put(f"  {command}")
