"""Recipes as read: TOML, `extends`, and `--set` overrides; nothing is checked against signatures yet."""

import copy
import dataclasses
import importlib.resources
import itertools
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lapwing.build.key_lines import KeyPath, TooDeep, key_lines
from lapwing.build.places import MOST_SENTENCES, Places, Source, all_at_once, override_place, parse_toml
from lapwing.build.secrets import refuse_secret, refuse_secrets
from lapwing.core.errors import UserError, nearest, shown
from lapwing.core.paths import is_file
from lapwing.core.registry import refuse_ambiguous

# Of a recipe's file, in bytes; resolved recipes have less than 10 KiB.
_LARGEST = 256 * 1024
_DEEPEST_OVERRIDE = 16
_MOST_STAGES = 100

# Sections that a stage takes from the main stage where it says nothing itself.
SHARED = ("game", "opponents", "policy", "model", "generation", "collector", "learner")


SECTIONS = (
    *SHARED,
    "sampler",
    "annotate",
    "shaping",
    "filters",
    "pairs",
    "credit",
    "modulation",
    "selection",
    "aggregation",
    "loss",
    "corrections",
    "regularisers",
    "optimizer",
    "evaluation",
    "alarms",
)


TOP_KEYS = ("name", "seed", "stage")
STAGE_KEYS = {"name", "iterations", "checkpoint_every", "checkpoints_kept", "deadline_seconds"}


@dataclass(frozen=True)
class Recipe:
    """A recipe as read, not yet checked.

    Attributes:
      name, seed, stages: as its text and the overrides say.
      places: where each setting of a stage was said.
      wrong: what is wrong with the name, the seed and the like, for `plan` to say together with all else.
      unknown: further keys at the top, each with its place.
    """

    name: str
    seed: int
    stages: tuple[dict[str, Any], ...]
    places: Places = field(default_factory=Places, compare=False)
    wrong: tuple[str, ...] = ()
    unknown: tuple[tuple[str, str], ...] = ()


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
    recipe = with_overrides(_recipe(_read_toml(name_or_path), Path(name_or_path).stem), overrides)
    return recipe if seed is None else dataclasses.replace(recipe, seed=checked_seed(seed))


class _Text(NamedTuple):
    """The tables of a TOML text, from where they come, and the places of its stages."""

    data: dict[str, Any]
    source: Source
    places: Places


def _read_toml(name_or_path: str) -> _Text:
    if name_or_path.endswith(".toml"):
        label, text = name_or_path, _read_file(name_or_path)
    elif name_or_path in recipe_names():
        label = f"recipe {name_or_path}"
        text = importlib.resources.files("lapwing.recipes").joinpath(f"{name_or_path}.toml").read_text("utf-8")
    elif is_file(name_or_path):
        raise UserError(
            f"The recipe {shown(name_or_path)} is not a .toml file; recipes are TOML, and their files end so."
        )
    else:
        refuse_ambiguous(name_or_path)
        raise UserError(f"There is no recipe {shown(name_or_path)}; {nearest(name_or_path, recipe_names())}")
    data, source = parse_toml(text, label)
    if "extends" not in data:
        return _Text(data, source, Places.of(source, _checked_stages(data.get("stage", []), source)))
    base = data.pop("extends")
    if base not in recipe_names():
        raise UserError(
            f"{source.place('extends')}: it extends {shown(base)}, which is no shipped recipe; "
            f"{nearest(str(base), recipe_names())}"
        )
    return _extend(_read_toml(base), data, source)


def _read_file(path: str) -> str:
    """The text of a recipe's file, with line feeds alone; nothing is read of what is no ordinary file."""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise UserError(f"The recipe {shown(path)} is no file.")
        with Path(path).open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise UserError(f"The recipe {shown(path)} has more than {_LARGEST // 1024} KiB, and no recipe is so long.")
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: it is no text in UTF-8.") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"The recipe {shown(path)} could not be read: {reason}.") from error


def _extend(base: _Text, data: dict[str, Any], source: Source) -> _Text:
    """A recipe that says only what differs: stages are matched by name, sections key by key."""
    checked = _checked_stages(data.get("stage", []), source)
    own, said = {stage["name"]: stage for stage in checked}, Places.of(source, checked)
    places = base.places
    stages = []
    for stage in base.data.pop("stage"):
        changes = own.pop(stage["name"], {})
        for path in _replaced(stage, changes, (stage["name"],)):
            places.forget(path)
        stages.append(merged(stage, changes))
    places.add(said)
    # Another recipe has another name: its own, or that of its file.
    base.data.pop("name")
    if own:
        name = next(iter(own))
        number = checked.index(own[name])
        known = [stage["name"] for stage in stages]
        raise UserError(
            f"{source.place('stage', number, 'name')}: a recipe that extends another changes its stages, and there is "
            f"no stage '{name}'; {nearest(name, known)}"
        )
    return _Text({**base.data, **data, "stage": stages}, source, places)


def _replaced(main: Mapping[str, Any], own: Mapping[str, Any], path: KeyPath) -> Iterator[KeyPath]:
    """What `merged` takes from the second table: a section that both have is gone through, unless it is another."""
    for key, value in own.items():
        inner: Any = main.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping) and _same_part(inner, value):
            yield from _replaced(inner, value, (*path, key))
        else:
            yield (*path, key)


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
      UserError: an override is off; the message lists all that are.
    """
    wrong = []
    for override in overrides:
        try:
            _apply(recipe, override)
        except UserError as error:
            wrong.append(str(error))
    if wrong:
        raise UserError(all_at_once(recipe.name, [*recipe.wrong, *wrong]))
    refuse_secrets(recipe.stages)
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
        raise UserError(f"The seed is a whole number in [0, 2^63), not {shown(seed)}.")
    return seed


def as_recipe(data: Mapping[str, Any], fallback: str) -> Recipe:
    """A recipe from the tables of its TOML.

    Raises:
      UserError: its stages are not those of a recipe.
    """
    source = Source("", {})
    return _recipe(_Text(dict(data), source, Places()), fallback)


def _recipe(text: _Text, fallback: str) -> Recipe:
    data, source, places = text
    wrong = []
    stages = _checked_stages(data.get("stage", []), source)
    if not stages:
        raise UserError(f"{source.before()}a recipe needs at least one [[stage]] table; the last one is called 'main'.")
    if stages[-1]["name"] != "main":
        before = source.before("stage", len(stages) - 1, "name")
        raise UserError(f"{before}the last [[stage]] of a recipe is called 'main', not '{stages[-1]['name']}'.")
    name, seed = data.get("name", fallback), data.get("seed", 0)
    # The name becomes a part of a folder's name.
    if not isinstance(name, str) or not re.fullmatch(r"[\w][\w. +-]{0,99}", name):
        rule = "the name of a recipe is at most 100 letters, digits, '_', '-' and '.'"
        wrong.append(f"{source.before('name')}{rule}, not {shown(name)}.")
        name = "recipe"
    try:
        checked_seed(seed)
    except UserError as error:
        wrong.append(f"{source.before('seed')}{error}")
        seed = 0
    # A list that nobody reads to its end need not be whole.
    unknown = [(source.before(key), key) for key in data if key not in TOP_KEYS][: MOST_SENTENCES + 1]
    return Recipe(name, seed, tuple(copy.deepcopy(stages)), places, tuple(wrong), tuple(unknown))


def _checked_stages(stages: Any, source: Source) -> list[dict[str, Any]]:
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        raise UserError(
            f"{source.before('stage')}the stages of a recipe are [[stage]] tables; the last one is called 'main'."
        )
    if len(stages) > _MOST_STAGES:
        raise UserError(f"{source.before('stage')}a recipe has at most {_MOST_STAGES} stages, not {len(stages)}.")
    names: list[str] = []
    for number, stage in enumerate(stages):
        name, before = stage.get("name"), source.before("stage", number, "name")
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
            what = "has no name" if name is None else f"is called {shown(name)}"
            raise UserError(f"{before}a stage {what}, but its name is of lower-case letters, digits and '_'.")
        if name in names:
            raise UserError(f"{before}stages have different names, and '{name}' is there twice.")
        names.append(name)
    return stages


def _apply(recipe: Recipe, override: str) -> None:
    key, separator, text = override.partition("=")
    # First of all: other sentences repeat what was found.
    refuse_secret(f"--set {key.strip()}", text.strip().strip("\"'"))
    place = override_place(override)
    path = key.strip().split(".")
    if not separator or not all(path) or len(path) > _DEEPEST_OVERRIDE:
        raise UserError(f"--set takes [stage.]section.key=value, not {shown(override)}.")
    stages = {stage["name"]: stage for stage in recipe.stages}
    stage = "main"
    if path[0] in stages and len(path) > 1:
        stage, path = path[0], path[1:]
    if path[0] not in STAGE_KEYS and path[0] not in SECTIONS:
        raise UserError(
            f"{place}: there is no section {shown(path[0])}; {nearest(path[0], (*SECTIONS, *STAGE_KEYS, *stages))}"
        )
    if path == ["name"]:
        raise UserError(f"{place}: stages keep their names.")
    table: Any = stages[stage]
    found: list[str | int] = [stage]
    for part, following in itertools.pairwise(path):
        found.append(int(part) if isinstance(table, list) and part.isdecimal() else part)
        # A number that follows begins a list, as in annotate.0.name=value.
        empty: Any = [] if following == "0" else {}
        table = table.setdefault(part, empty) if isinstance(table, dict) else _item(table, part, place)
    if isinstance(table, dict):
        table[path[-1]] = _value(text)
    elif isinstance(table, list):
        raise UserError(f"{place}: '{path[-2]}' is a list; name its place, as in filters.0.name=zero_spread.")
    else:
        raise UserError(f"{place}: '{path[-2]}' is a setting, {shown(table)}, with nothing inside.")
    recipe.places.set((*found, path[-1]), place)


def _value(text: str) -> Any:
    """An override's value: TOML if it is that, else the text as it stands."""
    if len(text) > _LARGEST:
        raise UserError(f"--set takes values of at most {_LARGEST // 1024} KiB.")
    try:
        key_lines(f"value = {text}")
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError, TooDeep):
        return text.strip()
    return parsed["value"] if len(parsed) == 1 else text.strip()


def _item(table: Any, part: str, place: str) -> Any:
    if isinstance(table, list) and re.fullmatch(r"[0-9]{1,6}", part) and int(part) <= len(table):
        if int(part) == len(table):
            table.append({})
        return table[int(part)]
    raise UserError(f"{place}: there is nothing called {shown(part)}.")


def outside_packages(recipe: Recipe) -> tuple[str, ...]:
    """The packages outside Lapwing whose code a recipe names, as `--allow-code` takes them, sorted."""

    def named(value: Any) -> Iterator[str]:
        if isinstance(value, Mapping):
            name = value.get("name")
            if isinstance(name, str) and ":" in name:
                yield name.partition(":")[0].partition(".")[0]
            for inner in value.values():
                yield from named(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                yield from named(inner)

    return tuple(sorted(set(named(recipe.stages))))
