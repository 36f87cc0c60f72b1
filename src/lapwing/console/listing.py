"""What can be named in a recipe."""

import tomllib
from pathlib import Path
from typing import Any

from lapwing.core.errors import UserError, nearest, shown

_METHODS = Path(__file__).parent / "methods.toml"


def listing(what: str) -> list[dict[str, Any]]:
    """What `lapwing list` shows: one object for each name.

    Raises:
      UserError: there is no such list.
    """
    from lapwing.core import registry

    if what == "recipes":
        return [{"name": name, "summary": _first_comment(name)} for name in _recipes()]
    if what == "methods":
        return published_methods()
    if what not in registry.FOLDERS:
        raise UserError(f"There is no list {shown(what)}; {nearest(what, ('recipes', 'methods', *registry.FOLDERS))}")
    found = [registry.describe(what, name) for name in registry.names(what)]
    return [{**entry._asdict(), "needs": list(entry.needs)} for entry in found]


def published_methods() -> list[dict[str, Any]]:
    """The published methods and systems around Lapwing, each with its state here.

    Returns:
      One object each: `number`, `name`, `title`, `kind` (of method), `state` ("working", "planned", "theory" or "out of
      scope"), `where` (what a recipe or a program names, as "room/name"), `summary`, `verified`, `choice` (what is
      ours and not the paper's), `reason` (why it does not work here; empty where it does).
    """
    empty = {"where": [], "verified": "", "choice": "", "reason": ""}
    return [{**empty, **row} for row in tomllib.loads(_METHODS.read_text(encoding="utf-8"))["method"]]


def _recipes() -> list[str]:
    from lapwing.build import recipe_names

    return recipe_names()


def _first_comment(recipe: str) -> str:
    path = Path(__file__).parents[1] / "recipes" / f"{recipe}.toml"
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
