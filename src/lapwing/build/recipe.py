"""Recipes as read: TOML, `extends`, and `--set` overrides; nothing is checked against signatures yet."""

import copy
import dataclasses
import importlib.resources
import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lapwing.core.errors import UserError, nearest

# Sections that a stage takes from the main stage where it says nothing itself.
SHARED = ("game", "opponents", "policy", "model", "generation", "collector", "learner")


SECTIONS = (
    *SHARED,
    "sampler",
    "annotate",
    "shaping",
    "filters",
    "credit",
    "modulation",
    "selection",
    "aggregation",
    "loss",
    "regularisers",
    "optimizer",
    "evaluation",
)


STAGE_KEYS = {"name", "iterations", "checkpoint_every", "deadline_seconds"}


@dataclass(frozen=True)
class Recipe:
    """A recipe as read: its name, its seed and its stages, not yet checked."""

    name: str
    seed: int
    stages: tuple[dict[str, Any], ...]


def recipe_names() -> list[str]:
    """The shipped recipes."""
    folder = importlib.resources.files("lapwing.recipes")
    return sorted(path.name.removesuffix(".toml") for path in folder.iterdir() if path.name.endswith(".toml"))


def read_recipe(name_or_path: str, *, overrides: Sequence[str] = (), seed: int | None = None) -> Recipe:
    """Read a shipped recipe by name, or a TOML file by path, and apply `--set` overrides.

    Args:
      name_or_path: such as "frozen_lake_tiny" or "runs/x/recipe.toml".
      overrides: `[stage.]section.key=value`; without a stage name the main stage is meant.
      seed: replaces the recipe's.

    Raises:
      UserError: there is no such recipe, or it is no TOML with `[[stage]]` tables, or an override is off.
    """
    recipe = with_overrides(as_recipe(_read_toml(name_or_path), Path(name_or_path).stem), overrides)
    return recipe if seed is None else dataclasses.replace(recipe, seed=checked_seed(seed))


def _read_toml(name_or_path: str) -> dict[str, Any]:
    if name_or_path.endswith(".toml"):
        try:
            text = Path(name_or_path).read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a path with a NUL
            raise UserError(f"The recipe {name_or_path!r} could not be read: {error}.") from error
    elif name_or_path in recipe_names():
        text = importlib.resources.files("lapwing.recipes").joinpath(f"{name_or_path}.toml").read_text("utf-8")
    elif Path(name_or_path).is_file():
        raise UserError(f"The recipe {name_or_path!r} is not a .toml file; recipes are TOML, and their files end so.")
    else:
        raise UserError(f"There is no recipe '{name_or_path}'; {nearest(name_or_path, recipe_names())}")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"The recipe {name_or_path} is no TOML: {error}.") from error
    except RecursionError as error:
        raise UserError(f"The recipe {name_or_path} is nested too deeply.") from error
    if "extends" not in data:
        return data
    base = data.pop("extends")
    if base not in recipe_names():
        raise UserError(
            f"{name_or_path} extends '{base}', which is no shipped recipe; {nearest(str(base), recipe_names())}"
        )
    return _extend(_read_toml(base), data)


def _extend(base: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """A recipe that says only what differs: stages are matched by name, sections key by key."""
    own = {stage["name"]: stage for stage in _checked_stages(data.get("stage", []))}
    stages = [merged(stage, own.pop(stage["name"], {})) for stage in base.pop("stage")]
    # Another recipe has another name: its own, or that of its file.
    base.pop("name")
    if own:
        raise UserError(f"A recipe that extends another changes its stages; it has no stage '{next(iter(own))}'.")
    return {**base, **data, "stage": stages}


def _same_part(main: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    return own.get("name", main.get("name")) == main.get("name")


def merged(main: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A table with another's keys over it, key by key; a part with another `name` replaces the old one whole."""
    result = dict(main)
    for key, value in own.items():
        inner: Any = result.get(key)
        both = isinstance(value, Mapping) and isinstance(inner, Mapping)
        result[key] = merged(inner, value) if both and _same_part(inner, value) else value
    return result


def with_overrides(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Apply further `--set` overrides, in place.

    Raises:
      UserError: an override is off.
    """
    for override in overrides:
        _apply(recipe, override)
    return recipe


# What tells a model that comes from no run how its replies are read.
_REPLY_FORMAT = (
    "Think step by step, then write the one move that you choose between <action> and </action>, and nothing after it."
)


def model_recipe(model: str, game: str) -> Recipe:
    """How a model that comes from no run plays a game: with instructions, thinking, and `<action>` tags."""
    stage = {
        "name": "main",
        "game": {"name": game},
        "policy": {
            "renderer": {"name": "coordinates", "instructions": True, "reply_format": _REPLY_FORMAT},
            "parser": {"name": "tags", "think": True},
        },
        "model": {"name": model},
        "generation": {"max_tokens": 128},
        "loss": {"name": "negative_log_likelihood"},
    }
    return Recipe(f"{game} by {model}", 0, (stage,))


def checked_seed(seed: Any) -> int:
    """The seed, if it is one.

    Raises:
      UserError: it is not.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise UserError(f"The seed is a whole number in [0, 2^63), not {seed!r}.")
    return seed


def as_recipe(data: Mapping[str, Any], fallback: str) -> Recipe:
    """A recipe from the tables of its TOML.

    Raises:
      UserError: its keys or stages are not those of a recipe.
    """
    unknown = set(data) - {"name", "seed", "stage"}
    if unknown:
        raise UserError(f"A recipe has the keys name, seed and [[stage]], not '{sorted(unknown)[0]}'.")
    stages = _checked_stages(data.get("stage", []))
    if not stages:
        raise UserError("A recipe needs at least one [[stage]] table; the last one is called 'main'.")
    if stages[-1]["name"] != "main":
        raise UserError(f"The last [[stage]] of a recipe is called 'main', not '{stages[-1]['name']}'.")
    name = data.get("name", fallback)
    # The name becomes a part of a folder's name.
    if not isinstance(name, str) or not re.fullmatch(r"[\w][\w. +-]{0,99}", name):
        raise UserError(f"The name of a recipe is at most 100 letters, digits, '_', '-' and '.', not {name!r}.")
    return Recipe(name, checked_seed(data.get("seed", 0)), tuple(copy.deepcopy(stages)))


def _checked_stages(stages: Any) -> list[dict[str, Any]]:
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        raise UserError("The stages of a recipe are [[stage]] tables; the last one is called 'main'.")
    names = [stage.get("name") for stage in stages]
    if not all(isinstance(name, str) and re.fullmatch(r"[a-z]\w*", name) for name in names):
        raise UserError(f"Every stage has a name of lower-case letters, digits and '_'; found {names}.")
    if len(set(names)) != len(names):
        raise UserError(f"Stages have different names; found {names}.")
    return stages


def _apply(recipe: Recipe, override: str) -> None:
    key, separator, text = override.partition("=")
    path = key.strip().split(".")
    if not separator or not all(path):
        raise UserError(f"--set takes [stage.]section.key=value, not '{override}'.")
    try:
        parsed = tomllib.loads(f"value = {text}")
        value = parsed["value"] if len(parsed) == 1 else text.strip()
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text.strip()
    stages = {stage["name"]: stage for stage in recipe.stages}
    table: Any = stages["main"]
    if path[0] in stages and len(path) > 1:
        table, path = stages[path[0]], path[1:]
    if path[0] not in STAGE_KEYS and path[0] not in SECTIONS:
        raise UserError(f"--set {key}: there is no section '{path[0]}'; {nearest(path[0], (*SECTIONS, *stages))}")
    if path == ["name"]:
        raise UserError(f"--set {key}: stages keep their names.")
    for part, following in itertools.pairwise(path):
        # A number that follows begins a list, as in annotate.0.name=value.
        empty: Any = [] if following == "0" else {}
        table = table.setdefault(part, empty) if isinstance(table, dict) else _item(table, part, key)
    if isinstance(table, dict):
        table[path[-1]] = value
    else:
        raise UserError(f"--set {key}: '{path[-2]}' is a list; name its place, as in filters.0.name=zero_spread.")


def _item(table: Any, part: str, key: str) -> Any:
    if isinstance(table, list) and part.isdecimal() and int(part) <= len(table):
        if int(part) == len(table):
            table.append({})
        return table[int(part)]
    raise UserError(f"--set {key}: there is nothing called '{part}'.")
