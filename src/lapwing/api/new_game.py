"""A game to begin with: rules, renderer, test and recipe, as files of one's own."""

import importlib.util
import keyword
import re
from pathlib import Path
from typing import NamedTuple

from lapwing.core.errors import UserError, shown
from lapwing.core.paths import checked_path
from lapwing.core.registry import class_name
from lapwing.core.storage import write_text

MOST_PLAYERS = 8
_TEMPLATES = Path(__file__).parent / "scaffold"
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class NewGame(NamedTuple):
    """What was written.

    Attributes:
      files: their paths.
      commands: what to type next, in the folder.
    """

    files: tuple[Path, ...]
    commands: tuple[str, ...]


def new_game(name: str, *, folder: str | Path = ".", players: int = 1) -> NewGame:
    """Write a small game that can be checked, played and trained as it stands.

    Args:
      name: of the module, in snake case.
      folder: where to; made if it is not there.
      players: how many seats the game has.

    Raises:
      UserError: the name or the number is off, or a file is there already.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        better = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|\W+", "_", name).strip("_").lower()
        hint = f"; {better} would be" if _NAME.fullmatch(better) and not keyword.iskeyword(better) else ""
        raise UserError(f"{shown(name)} is no name of a module in snake case, such as my_game{hint}.")
    if not 1 <= players <= MOST_PLAYERS:
        raise UserError(f"A new game has 1 to {MOST_PLAYERS} players, not {players}.")
    where = checked_path(folder, "the folder")
    kind = "one_player" if players == 1 else "several_players"
    texts = {
        f"{name}.py": _text(f"{kind}.py.txt", name, players),
        f"test_{name}.py": _text(f"test_{kind}.py.txt", name, players),
        f"{name}.toml": _text("recipe.toml.txt", name, players),
    }
    there = [file for file in texts if (where / file).exists()]
    if there:
        are = "is" if len(there) == 1 else "are"
        raise UserError(f"{' and '.join(there)} {are} in {where} already; choose another name or --folder.")
    if importlib.util.find_spec(name) is not None:
        raise UserError(f"A module {name} is installed already, and would be imported instead; choose another name.")
    try:
        where.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            write_text(where / file, text)
    except OSError as error:
        raise UserError(f"{where} cannot be written to: {error.strerror or error}.") from error
    game = f"{name}:{class_name(name)}"
    commands = (
        f"lapwing check-game {game}",
        f"lapwing play {game} --allow-code {name}",
        f"lapwing train {name}.toml --allow-code {name}",
    )
    return NewGame(tuple(where / file for file in texts), commands)


def _text(template: str, name: str, players: int) -> str:
    text = (_TEMPLATES / template).read_text(encoding="utf-8")
    seats = "".join(f'{seat} = {{ name = "random" }}\n' for seat in range(1, players))
    text = text.replace("# opponents\n", f"[stage.opponents]\n{seats}" if seats else "")
    text = text.replace("ClassVar[int] = 2  # players", f"ClassVar[int] = {players}")
    return text.replace("NewGame", class_name(name)).replace("new_game", name)
