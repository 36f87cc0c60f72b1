"""Settings given from Python, as a recipe writes them."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from lapwing.core import registry
from lapwing.core.errors import UserError


def as_toml(value: Any) -> str:
    """A value as TOML in one line; a game stands for the table that names it.

    Args:
      value: text, a number, a list, a table, or a game whose settings are such.

    Raises:
      UserError: no recipe can hold it.
    """
    import tomli_w

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_toml(_table(value))
    if isinstance(value, Mapping):
        # A JSON string is a quoted key of TOML.
        return "{ " + ", ".join(f"{json.dumps(str(key))} = {as_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(as_toml(item) for item in value) + "]"
    try:
        return tomli_w.dumps({"value": value}).partition("=")[2].strip()
    except TypeError as error:
        raise UserError(f"{value!r} cannot be a setting: recipes hold text, numbers, lists and tables.") from error


def _table(game: Any) -> dict[str, Any]:
    """The name of a game and what is set in it."""
    kind = type(game)
    name = kind.__module__.rpartition(".")[2]
    if not kind.__module__.startswith("lapwing.games.") or name not in registry.names("games"):
        if kind.__module__ == "__main__":
            raise UserError(
                f"{kind.__name__} is defined in the program itself; put it into a file that can be imported."
            )
        name = f"{kind.__module__}:{kind.__name__}"
    settings = {field.name: getattr(game, field.name) for field in dataclasses.fields(game) if field.init}
    defaults = {field.name: _default(field) for field in dataclasses.fields(game)}
    given = {key: setting for key, setting in settings.items() if setting is not None and setting != defaults[key]}
    for key, setting in given.items():
        if callable(setting):
            raise UserError(
                f"{key} of {kind.__name__} is a function, which no recipe can hold; write a function that makes the "
                "game, and name it: game={'name': 'my_games:my_game'}, allow_code=['my_games']."
            )
    return {"name": name, **given}


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
