"""What can be named in a recipe."""

from pathlib import Path
from typing import Any

from lapwing.core.errors import UserError, nearest, shown


def listing(what: str) -> list[dict[str, Any]]:
    """What `lapwing list` shows: one object for each name.

    Raises:
      UserError: there is no such list.
    """
    from lapwing.core import registry

    if what == "recipes":
        return [{"name": name, "summary": _first_comment(name)} for name in _recipes()]
    if what not in registry.FOLDERS:
        raise UserError(f"There is no list {shown(what)}; {nearest(what, ('recipes', *registry.FOLDERS))}")
    found = [registry.describe(what, name) for name in registry.names(what)]
    return [{**entry._asdict(), "needs": list(entry.needs)} for entry in found]


def _recipes() -> list[str]:
    from lapwing.build import recipe_names

    return recipe_names()


def _first_comment(recipe: str) -> str:
    path = Path(__file__).parents[1] / "recipes" / f"{recipe}.toml"
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
