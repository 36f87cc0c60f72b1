"""From a recipe to objects: the only module that knows every implementation.

A recipe is TOML: `[[stage]]` tables, each with sections. A section is `name` plus keyword arguments of the thing
named, and its signature is the schema. Everything wrong is reported at once, before any work starts.
"""

import copy
import dataclasses
import functools
import importlib.resources
import inspect
import re
import tomllib
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ConfigDict, Field, ValidationError, create_model

from lapwing.core import registry, rng
from lapwing.core.errors import LapwingError, UserError, nearest
from lapwing.core.protocols import Game, Policy
from lapwing.core.types import Ask, Episode, Match, Selection

# Arguments of losses that are columns of the batch; all others are settings.
_LOSS_TENSORS = {
    "logprob",
    "behavior_logprob",
    "sampler_logprob",
    "reference_logprob",
    "advantage",
    "token_entropy",
    "step_of_token",
    "episode_of_token",
    "group_of_episode",
    "success",
}
# Sections that a stage takes from the main stage where it says nothing itself.
_SHARED = ("game", "opponents", "policy", "model", "generation")
_SECTIONS = (
    *_SHARED,
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
_FOLDER_OF = {
    "game": "games",
    "sampler": "samplers",
    "annotate": "annotate",
    "shaping": "shaping",
    "filters": "filters",
    "credit": "credit",
    "modulation": "modulation",
    "selection": "selection",
    "aggregation": "aggregation",
    "loss": "losses",
    "regularisers": "losses",
}
_INJECTED = {"game", "seed", "model", "tokenizer", "stop", "vocabulary", "generator", "ask_person", "weights"}
_STAGE_KEYS = {"name", "iterations", "checkpoint_every"}
_BASELINES = ("random", "legal_random", "heuristic", "optimal", "noisy_expert", "scripted")


@dataclass(frozen=True)
class Recipe:
    """A recipe as read: its name, its seed and its stages, not yet checked."""

    name: str
    seed: int
    stages: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """The recipe as it is written to TOML."""
        return {"name": self.name, "seed": self.seed, "stage": [dict(stage) for stage in self.stages]}


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
    recipe = with_overrides(_as_recipe(_read_toml(name_or_path), Path(name_or_path).stem), overrides)
    return recipe if seed is None else dataclasses.replace(recipe, seed=checked_seed(seed))


def _read_toml(name_or_path: str) -> dict[str, Any]:
    if name_or_path.endswith(".toml"):
        try:
            text = Path(name_or_path).read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a path with a NUL
            raise UserError(f"The recipe {name_or_path!r} could not be read: {error}.") from error
    elif name_or_path in recipe_names():
        text = importlib.resources.files("lapwing.recipes").joinpath(f"{name_or_path}.toml").read_text("utf-8")
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
    stages = [_merged(stage, own.pop(stage["name"], {})) for stage in base.pop("stage")]
    # Another recipe has another name: its own, or that of its file.
    base.pop("name")
    if own:
        raise UserError(f"A recipe that extends another changes its stages; it has no stage '{next(iter(own))}'.")
    return {**base, **data, "stage": stages}


def with_overrides(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Apply further `--set` overrides, in place.

    Raises:
      UserError: an override is off.
    """
    for override in overrides:
        _apply(recipe, override)
    return recipe


def model_recipe(model: str, game: str) -> Recipe:
    """How a model that comes from no run plays a game: with instructions, thinking, and `<action>` tags."""
    stage = {
        "name": "main",
        "game": {"name": game},
        "policy": {
            "renderer": {"name": "coordinates", "instructions": True},
            "parser": {"name": "tags", "think": True},
        },
        "model": {"name": model},
        "generation": {"max_tokens": 128},
        "loss": {"name": "negative_log_likelihood"},
    }
    return Recipe(f"{game} by {model}", 0, (stage,))


def game_plan(game: str, overrides: Sequence[str] = ()) -> "StagePlan":
    """A plan for playing a game without any model: its game section and opponents are what matters.

    Args:
      game: its name.
      overrides: `key=value` settings of the game.

    Raises:
      UserError: there is no such game or setting.
    """
    stage: dict[str, Any] = {"name": "main", "game": {"name": game}, "loss": {"name": "negative_log_likelihood"}}
    recipe = Recipe(game, 0, (stage,))
    with_overrides(recipe, [text if text.startswith(("game.", "opponents.")) else f"game.{text}" for text in overrides])
    checker = _Checker(())
    part = checker.part("game", "game", stage["game"])
    if part is not None and not checker.errors:
        found = _construct(checker, "game", part.make, part.settings)
        if found is not None:
            stage.setdefault("opponents", {str(seat): {"name": "scripted"} for seat in range(1, found.num_players)})
    if checker.errors:
        raise UserError(" ".join(checker.errors))
    return plan(recipe)[-1]


def checked_seed(seed: Any) -> int:
    """The seed, if it is one.

    Raises:
      UserError: it is not.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise UserError(f"The seed is a whole number in [0, 2^63), not {seed!r}.")
    return seed


def _as_recipe(data: Mapping[str, Any], fallback: str) -> Recipe:
    unknown = set(data) - {"name", "seed", "stage"}
    if unknown:
        raise UserError(f"A recipe has the keys name, seed and [[stage]], not '{sorted(unknown)[0]}'.")
    stages = _checked_stages(data.get("stage", []))
    if not stages or stages[-1]["name"] != "main":
        raise UserError("A recipe needs at least one [[stage]] table; the last one is called 'main'.")
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
    if path[0] not in _STAGE_KEYS and path[0] not in _SECTIONS:
        raise UserError(f"--set {key}: there is no section '{path[0]}'; {nearest(path[0], (*_SECTIONS, *stages))}")
    if path == ["name"]:
        raise UserError(f"--set {key}: stages keep their names.")
    for part in path[:-1]:
        table = table.setdefault(part, {}) if isinstance(table, dict) else _item(table, part, key)
    if isinstance(table, dict):
        table[path[-1]] = value
    else:
        raise UserError(f"--set {key}: '{path[-2]}' is a list; name its place, as in filters.0.name=zero_spread.")


def _item(table: Any, part: str, key: str) -> Any:
    if isinstance(table, list) and part.isdecimal() and int(part) < len(table):
        return table[int(part)]
    raise UserError(f"--set {key}: there is nothing called '{part}'.")


# ---------------------------------------------------------------------------------------------------------------------
# Checking: the signature is the schema.


class Part(NamedTuple):
    """A thing named in a recipe with its settings, checked and complete."""

    name: str
    make: Callable[..., Any]
    settings: dict[str, Any]


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value


def _lists(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_lists(item) for item in value]
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items() if item is not None}
    return value


def parameters_of(make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The settings of a function or class: its keyword arguments less those that are columns or injected."""
    keyword_only = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.signature(make)
    is_data = dataclasses.is_dataclass(make)
    return {
        name: parameter
        for name, parameter in signature.parameters.items()
        if is_data or (parameter.kind is keyword_only and name not in _LOSS_TENSORS and name not in _INJECTED)
    }


@functools.lru_cache(maxsize=256)
def _schema(make: Callable[..., Any]) -> Any:
    hints = typing.get_type_hints(make.__init__ if inspect.isclass(make) else make)
    fields = {
        name: (
            hints.get(name, Any),
            Field(...) if parameter.default is inspect.Parameter.empty else Field(default=parameter.default),
        )
        for name, parameter in parameters_of(make).items()
    }
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())
    return create_model("Settings", __config__=config, **typing.cast(Any, fields))


class _Checker:
    """Collects everything that is wrong with a recipe."""

    def __init__(self, allow_code: tuple[str, ...]) -> None:
        self.allow_code = allow_code
        self.errors: list[str] = []

    def settings(self, where: str, make: Callable[..., Any], table: Mapping[str, Any]) -> dict[str, Any]:
        try:
            checked = _schema(make)(**_tuples(dict(table)))
        except ValidationError as error:
            for item in error.errors():
                self.errors.append(f"{where}.{self._sentence(item, make)}")
            return {}
        return {name: getattr(checked, name) for name in parameters_of(make)}

    @staticmethod
    def _sentence(item: Any, make: Callable[..., Any]) -> str:
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            return f"{key} is unknown; {nearest(key, parameters_of(make))}"
        if item["type"] == "missing":
            return f"{key} is missing."
        return f"{key}: {item['msg'].lower()}, found {item['input']!r}."

    def part(self, where: str, section: str, table: Any, extra: Mapping[str, Any] | None = None) -> Part | None:
        """A section that names a method of a folder."""
        if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
            self.errors.append(f"{where} needs a name, as in {{ name = '…' }}; found {table!r}.")
            return None
        try:
            make = registry.resolve(_FOLDER_OF[section], table["name"], allow_code=self.allow_code)
        except UserError as error:
            self.errors.append(f"{where}: {error}")
            return None
        rest = {key: value for key, value in table.items() if key != "name" and key not in (extra or {})}
        return Part(table["name"], make, self.settings(where, make, rest))

    def chosen(self, where: str, table: Any, options: Mapping[str, Callable[..., Any]], default: str) -> Part | None:
        """A section that names one of a few classes."""
        table = {"name": default} if table is None else table
        if not isinstance(table, Mapping):
            self.errors.append(f"{where} is a table, as in {{ name = '{default}' }}; found {table!r}.")
            return None
        name = table.get("name", default)
        if not isinstance(name, str) or name not in options:
            self.errors.append(f"{where}: there is no '{name}'; {nearest(str(name), options)}")
            return None
        rest = {key: value for key, value in table.items() if key != "name"}
        return Part(name, options[name], self.settings(where, options[name], rest))


def _renderers() -> dict[str, Callable[..., Any]]:
    from lapwing.policies import renderers

    return {"grid": renderers.Grid, "coordinates": renderers.Coordinates}


def _contexts() -> dict[str, Callable[..., Any]]:
    from lapwing.policies import contexts

    return {"state_only": contexts.StateOnly, "last_k": contexts.LastK, "transcript": contexts.Transcript}


def _parsers() -> dict[str, Callable[..., Any]]:
    from lapwing.policies import parsers

    return {"bare": parsers.Bare, "tags": parsers.Tags}


def baselines() -> dict[str, Callable[..., Any]]:
    """The policies that are no language models, by name."""
    from lapwing.policies import baselines as found

    return {name: getattr(found, registry.class_name(name)) for name in _BASELINES}


@dataclass(frozen=True)
class _Regulariser:
    """Settings of a regulariser besides its own: coefficient over the course of the stage."""

    coefficient: float
    final_coefficient: float | None = None
    until: float = 1.0
    over: str = "selected"

    def __post_init__(self) -> None:
        if self.over not in ("played", "selected"):
            raise UserError(f"over is 'played' or 'selected', not '{self.over}'.")
        if not 0.0 < self.until <= 1.0:
            raise UserError(f"until is a share of the stage in (0, 1], not {self.until}.")


@dataclass(frozen=True)
class _PolicySettings:
    """Settings of the language agent besides its parts."""

    invalid: str = "default"
    format_penalty: float = 1.0
    default_action: str | None = None
    retries: int = 1


@dataclass(frozen=True)
class _StageSettings:
    """Settings of a stage besides its sections."""

    iterations: int = 100
    checkpoint_every: int = 50

    def __post_init__(self) -> None:
        if self.iterations < 0:
            raise UserError(f"iterations is at least 0, not {self.iterations}.")
        if self.checkpoint_every < 1:
            raise UserError(f"checkpoint_every is at least 1, not {self.checkpoint_every}.")


@dataclass
class StagePlan:
    """A stage whose settings are checked and complete, before any model is built."""

    name: str
    settings: _StageSettings
    game: Part
    opponents: dict[int, Part]
    policy: dict[str, Any]
    renderer: Part
    context: Part
    parser: Part
    teacher: Part | None
    model: Part
    generation: Part
    sampler: Part
    annotate: list[Part]
    shaping: list[Part]
    filters: list[Part]
    credit: Part | None
    modulation: list[Part]
    selection: Part
    aggregation: Part
    loss: Part
    regularisers: list[tuple[Part, _Regulariser]]
    optimizer: Part
    evaluation: Part

    def to_dict(self) -> dict[str, Any]:
        """The stage as a table of a resolved recipe: training it again repeats the run."""

        def table(part: Part, **further: Any) -> dict[str, Any]:
            return _lists({"name": part.name, **part.settings, **further})

        resolved: dict[str, Any] = {
            "name": self.name,
            **dataclasses.asdict(self.settings),
            "game": table(self.game),
            "opponents": {str(seat): table(part) for seat, part in self.opponents.items()},
            "policy": {
                **_lists(self.policy),
                "renderer": table(self.renderer),
                "context": table(self.context),
                "parser": table(self.parser),
                **({"teacher": table(self.teacher)} if self.teacher else {}),
            },
            "model": table(self.model),
            "generation": table(self.generation),
            "sampler": table(self.sampler),
            "annotate": [table(part) for part in self.annotate],
            "shaping": [table(part) for part in self.shaping],
            "filters": [table(part) for part in self.filters],
            **({"credit": table(self.credit)} if self.credit else {}),
            "modulation": [table(part) for part in self.modulation],
            "selection": table(self.selection),
            "aggregation": table(self.aggregation),
            "loss": table(self.loss),
            "regularisers": [table(part, **dataclasses.asdict(extra)) for part, extra in self.regularisers],
            "optimizer": table(self.optimizer),
            "evaluation": {k: v for k, v in table(self.evaluation).items() if k != "name"},
        }
        return {key: value for key, value in resolved.items() if value not in ({}, [])}


def _merged(main: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(main)
    for key, value in own.items():
        inner = merged.get(key)
        renamed = isinstance(value, Mapping) and isinstance(inner, Mapping) and value.get("name") != inner.get("name")
        if isinstance(value, Mapping) and isinstance(inner, Mapping) and not ("name" in value and renamed):
            merged[key] = _merged(inner, value)
        else:
            merged[key] = value
    return merged


def plan(recipe: Recipe, *, allow_code: tuple[str, ...] = ()) -> list[StagePlan]:
    """Check every stage of a recipe and fill in all defaults.

    Raises:
      UserError: anything is wrong; the message lists everything.
    """
    checker = _Checker(allow_code)
    main = recipe.stages[-1]
    plans = []
    for stage in recipe.stages:
        shared = {key: main[key] for key in _SHARED if key in main}
        if stage is not main and isinstance(shared.get("policy"), Mapping):
            shared["policy"] = {key: value for key, value in shared["policy"].items() if key != "teacher"}
        plans.append(_plan_stage(checker, _merged(shared, stage)))
    if checker.errors:
        errors = _without_repetitions(checker.errors, [stage["name"] for stage in recipe.stages[:-1]])
        if len(errors) == 1:
            raise UserError(f"Recipe '{recipe.name}': {errors[0]}")
        listed = "\n".join(f"  - {error}" for error in errors)
        raise UserError(f"Recipe '{recipe.name}' has {len(errors)} errors:\n{listed}")
    return typing.cast(list[StagePlan], plans)


def _without_repetitions(errors: Sequence[str], earlier: Sequence[str]) -> list[str]:
    """What is wrong with a shared section is said once, for the main stage."""
    of_main = {error.removeprefix("main") for error in errors if error.startswith("main")}
    repeated = {stage + error for stage in earlier for error in of_main}
    return [error for error in dict.fromkeys(errors) if error not in repeated]


def _plan_stage(checker: _Checker, table: dict[str, Any]) -> StagePlan | None:
    from lapwing.evaluation.evaluate import EvaluationSettings
    from lapwing.generation.transformers import Transformers
    from lapwing.training.learner import AdamW

    where = table["name"]
    before = len(checker.errors)
    for key in table:
        if key not in _STAGE_KEYS and key not in _SECTIONS:
            checker.errors.append(f"{where}.{key} is unknown; {nearest(key, (*_STAGE_KEYS, *_SECTIONS))}")
    keys = {key: table[key] for key in ("iterations", "checkpoint_every") if key in table}
    policy = dict(_table(checker, f"{where}.policy", table.get("policy", {})))
    policy.pop("name", None)
    parts = {key: policy.pop(key, None) for key in ("renderer", "context", "parser", "teacher")}
    opponents = _table(checker, f"{where}.opponents", table.get("opponents", {}))
    for seat in opponents:
        if not seat.isdecimal():
            checker.errors.append(f"{where}.opponents.{seat} is no seat; seats are numbers from 1.")
    regularisers = []
    for i, entry in enumerate(_list(checker, f"{where}.regularisers", table.get("regularisers", []))):
        extra = {f.name: entry[f.name] for f in dataclasses.fields(_Regulariser) if f.name in entry}
        part = checker.part(f"{where}.regularisers.{i}", "regularisers", entry, extra)
        settings = checker.settings(f"{where}.regularisers.{i}", _Regulariser, extra)
        built = _construct(checker, f"{where}.regularisers.{i}", _Regulariser, settings) if settings else None
        regularisers.append((part, built))
    lists = {
        key: [
            checker.part(f"{where}.{key}.{i}", key, entry)
            for i, entry in enumerate(_list(checker, f"{where}.{key}", table.get(key, [])))
        ]
        for key in ("annotate", "shaping", "filters", "modulation")
    }
    planned: dict[str, Any] = {
        "name": where,
        "settings": _construct(checker, where, _StageSettings, checker.settings(where, _StageSettings, keys)),
        "game": checker.part(f"{where}.game", "game", table.get("game")),
        "opponents": {
            int(seat): checker.chosen(f"{where}.opponents.{seat}", entry, baselines(), "scripted")
            for seat, entry in opponents.items()
            if seat.isdecimal()
        },
        "policy": checker.settings(f"{where}.policy", _PolicySettings, policy),
        "renderer": checker.chosen(f"{where}.policy.renderer", parts["renderer"], _renderers(), "coordinates"),
        "context": checker.chosen(f"{where}.policy.context", parts["context"], _contexts(), "state_only"),
        "parser": checker.chosen(f"{where}.policy.parser", parts["parser"], _parsers(), "bare"),
        "teacher": None
        if parts["teacher"] is None
        else checker.chosen(f"{where}.policy.teacher", parts["teacher"], baselines(), "noisy_expert"),
        "model": _plan_model(checker, f"{where}.model", table.get("model", {"name": "tiny"})),
        "generation": checker.chosen(
            f"{where}.generation", table.get("generation"), {"transformers": Transformers}, "transformers"
        ),
        "sampler": checker.part(f"{where}.sampler", "sampler", _named(table, "sampler", "grouped")),
        **lists,
        "credit": checker.part(f"{where}.credit", "credit", table["credit"]) if "credit" in table else None,
        "selection": checker.part(f"{where}.selection", "selection", _named(table, "selection", "all_episodes")),
        "aggregation": checker.part(f"{where}.aggregation", "aggregation", _named(table, "aggregation", "token_mean")),
        "loss": checker.part(f"{where}.loss", "loss", table.get("loss")),
        "regularisers": regularisers,
        "optimizer": checker.chosen(f"{where}.optimizer", table.get("optimizer"), {"adamw": AdamW}, "adamw"),
        "evaluation": checker.chosen(
            f"{where}.evaluation", table.get("evaluation"), {"settings": EvaluationSettings}, "settings"
        ),
    }
    if len(checker.errors) > before:
        return None
    found = StagePlan(**planned)
    _check_values(checker, where, found)
    return found


def _named(table: Mapping[str, Any], section: str, default: str) -> Any:
    """A section that need not say its name."""
    found = table.get(section, {})
    return {"name": default, **found} if isinstance(found, Mapping) else found


def _table(checker: _Checker, where: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    checker.errors.append(f"{where} is a table of settings; found {value!r}.")
    return {}


def _list(checker: _Checker, where: str, value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value):
        return value
    checker.errors.append(f"{where} is an array of tables, as in [[stage.{where.partition('.')[2]}]]; found {value!r}.")
    return []


def _plan_model(checker: _Checker, where: str, table: Any) -> Part | None:
    from lapwing.models.pretrained import pretrained_model
    from lapwing.models.tiny import tiny_model

    table = {"name": table} if isinstance(table, str) else _table(checker, where, table)
    name = table.get("name", "tiny")
    if not isinstance(name, str):
        checker.errors.append(f"{where} needs a name, as in {{ name = 'tiny' }}; found {name!r}.")
        return None
    make = tiny_model if name == "tiny" else pretrained_model
    rest = {key: value for key, value in table.items() if key != "name"}
    if make is pretrained_model:
        rest["path"] = name
        if not re.fullmatch(r"[\w-][\w.-]{0,95}/[\w.-]{1,96}", name) and not _is_folder(name):
            checker.errors.append(
                f"{where}: '{name}' is neither 'tiny', nor an existing folder, nor a hub id such as 'org/model'."
            )
            return None
    settings = checker.settings(where, make, rest)
    settings.pop("path", None)
    return Part(name, make, settings)


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:  # a name that is too long
        return False


def _construct(checker: _Checker, where: str, make: Callable[..., Any], settings: Mapping[str, Any]) -> Any:
    try:
        return make(**settings)
    except LapwingError as error:
        checker.errors.append(f"{where}: {error}")
        return None


def _check_values(checker: _Checker, where: str, stage: StagePlan) -> None:
    """Build what costs nothing, so that impossible values are found before any work starts."""
    before = len(checker.errors)
    from lapwing.models.tiny import check_sizes, tiny_model

    if stage.model.make is tiny_model:
        _construct(checker, f"{where}.model", check_sizes, stage.model.settings)
    game = _construct(checker, f"{where}.game", stage.game.make, stage.game.settings)
    if game is not None:
        _construct(checker, f"{where}.game", lambda: _probe_starts(game), {})
        _construct(
            checker, f"{where}.sampler", functools.partial(stage.sampler.make, game, seed=0), stage.sampler.settings
        )
        _check_seats(checker, where, stage, game)
    for part in (stage.renderer, stage.context, stage.parser, stage.teacher, stage.optimizer, stage.evaluation):
        if part is not None:
            _construct(checker, where, part.make, part.settings)
    if len(checker.errors) == before:
        _check_play(checker, where, stage, game)
    _check_budgets(checker, where, stage.generation.settings)
    for part in (stage.loss, *(part for part, _ in stage.regularisers)):
        needs = _tensors_of(part)
        if "advantage" in needs and stage.credit is None:
            checker.errors.append(f"{where}: the loss '{part.name}' needs an advantage; add a credit section.")
    _check_columns(checker, where, stage)
    _check_functions(checker, where, stage)


def _check_seats(checker: _Checker, where: str, stage: StagePlan, game: Game) -> None:
    seats = set(range(1, game.num_players))
    if set(stage.opponents) != seats:
        expected = ", ".join(map(str, sorted(seats))) or "none"
        checker.errors.append(
            f"{where}.opponents: the game needs opponents for these seats: {expected}; found {sorted(stage.opponents)}."
        )


def _check_budgets(checker: _Checker, where: str, budget: Mapping[str, Any]) -> None:
    if budget["max_tokens"] < 1:
        checker.errors.append(
            f"{where}.generation: a reply needs a budget of at least 1 token, not {budget['max_tokens']}."
        )
    if not budget["temperature"] > 0:
        checker.errors.append(f"{where}.generation: temperature is above 0, not {budget['temperature']}.")
    for name in ("row_tokens", "batch_tokens", "memo_bytes"):
        if budget[name] < 1:
            checker.errors.append(f"{where}.generation: {name} is at least 1, not {budget[name]}.")


def _check_columns(checker: _Checker, where: str, stage: StagePlan) -> None:
    """Every column that something needs is in a played batch or comes from an annotator."""
    produced = {name for part in stage.annotate for name in _constant(part, "PRODUCES", ())}
    for part in (stage.loss, *(part for part, _ in stage.regularisers), *([stage.credit] if stage.credit else [])):
        for name in _constant(part, "NEEDS", ()):
            if name not in produced:
                checker.errors.append(
                    f"{where}: '{part.name}' needs the column {name}; add [[stage.annotate]] with name = '{name}'."
                )


def _check_play(checker: _Checker, where: str, stage: StagePlan, game: Game) -> None:
    """Let every policy that is no language model decide once, and set up the games of the evaluation."""
    from lapwing.policies.agent import InvalidRule

    state = game.initial(rng.generator("probe"))
    for seat, part in ((0, stage.teacher), *stage.opponents.items()):
        if part is not None:
            role = f"{where}.policy.teacher" if seat == 0 else f"{where}.opponents.{seat}"
            _construct(checker, role, functools.partial(_probe_policy, part, game, state, seat), {})
    rule = _construct(checker, f"{where}.policy", InvalidRule, _invalid_settings(stage.policy))
    if rule is not None and rule.rule != "forfeit":
        _construct(checker, f"{where}.policy", rule.action, {"legal": game.legal(state, 0), "key": 0})
    for i, entry in enumerate(stage.evaluation.settings["transfer"]):
        _construct(checker, f"{where}.evaluation.transfer.{i}", with_game, {"stage": stage, "settings": entry})


def _probe_policy(part: Part, game: Game, state: Any, player: int) -> None:
    settings = {**part.settings, **({"expert_share": 1.0} if part.settings.get("expert_share") else {})}
    view, legal = game.view(state, player), game.legal(state, player)
    ask = Ask(view=view, legal=legal, memory=None, key=0, game=game, state=state, player=player, steps_left=1)
    part.make(**settings).act_many([ask])


def _invalid_settings(policy: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "rule": policy["invalid"],
        "penalty": policy["format_penalty"],
        "default_action": policy["default_action"],
        "retries": policy["retries"],
    }


def _probe_starts(game: Game) -> None:
    from lapwing.games.game import SPLITS, for_split

    for split in SPLITS:
        for_split(game, split).initial(rng.generator("probe", split))


def _check_functions(checker: _Checker, where: str, stage: StagePlan) -> None:
    """Run every function of the pipeline on a small batch: their own checks of their settings speak."""
    import torch

    from lapwing.testing import episodes

    batch = episodes([[0.0, 1.0], [0.0], [1.0], [0.0]], group=[0, 0, 1, 1])
    advantage = np.array([0.5, 0.5, -0.5, 0.5, -0.5])
    everything = Selection(count=np.ones(4, dtype=np.int64), factor=np.ones(4))
    for part, arguments in (
        *((part, (batch,)) for part in (*stage.shaping, *stage.filters, stage.credit)),
        *((part, (batch, advantage)) for part in stage.modulation),
        (stage.selection, (batch, advantage, rng.generator("probe"))),
        (stage.aggregation, (batch, everything)),
        *((part, ()) for part in (stage.loss, *(part for part, _ in stage.regularisers))),
    ):
        if part is not None:
            tensors = {} if arguments else {name: torch.zeros(1) for name in _tensors_of(part)}
            try:
                part.make(*arguments, **tensors, **part.settings)
            except KeyError as error:
                checker.errors.append(f"{where}.{part.name}: {error.args[0]}")
            except UserError as error:
                checker.errors.append(f"{where}.{part.name}: {error}")


# ---------------------------------------------------------------------------------------------------------------------
# Building.


@dataclass
class Workshop:
    """What all stages share: the model, its tokenizer, and what they were made from."""

    model: Any
    tokenizer: Any
    seed: int


def resolved(recipe: Recipe, plans: Sequence[StagePlan]) -> dict[str, Any]:
    """The recipe with every default filled in, as `recipe.toml` of a run holds it."""
    return {"name": recipe.name, "seed": recipe.seed, "stage": [stage.to_dict() for stage in plans]}


def make_game(part: Part) -> Game:
    """The game that a section names."""
    return part.make(**part.settings)


def make_workshop(stage: StagePlan, seed: int, *, weights: Path | None = None) -> Workshop:
    """Build the model and tokenizer of a run.

    Args:
      stage: whose game, renderer and parser say which words a tiny model needs.
      seed: of the run; the initial weights follow from it.
      weights: a Hugging Face folder to load instead.
    """
    from lapwing.models import pretrained, tiny

    if weights is not None:
        return Workshop(*pretrained.load_folder(weights), seed)
    if stage.model.make is not tiny.tiny_model:
        return Workshop(*pretrained.pretrained_model(path=stage.model.name, **stage.model.settings), seed)
    game = make_game(stage.game)
    renderer = stage.renderer.make(**stage.renderer.settings)
    parser = stage.parser.make(**stage.parser.settings)
    state = game.initial(rng.generator("words"))
    legal = game.legal(state, 0) or ()
    tokenizer = tiny.tiny_tokenizer(renderer.words(game.view(state, 0)) | parser.words(legal))
    return Workshop(tiny.tiny_model(len(tokenizer), seed=seed, **stage.model.settings), tokenizer, seed)


def make_agent(stage: StagePlan, shop: Workshop, *, taught: bool = False) -> Any:
    """The language agent of a stage.

    Args:
      stage: its settings.
      shop: the model.
      taught: let the stage's teacher decide, if it has one.
    """
    from lapwing.policies.agent import Agent

    parser = stage.parser.make(**stage.parser.settings)
    return Agent(
        renderer=stage.renderer.make(**stage.renderer.settings),
        context=stage.context.make(**stage.context.settings),
        parser=parser,
        tokenizer=shop.tokenizer,
        generator=stage.generation.make(shop.model, shop.tokenizer, stop=parser.stop, **stage.generation.settings),
        teacher=stage.teacher.make(**stage.teacher.settings) if taught and stage.teacher else None,
    )


def greedy(agent: Any) -> Any:
    """The same agent with greedy decoding; both share what their generator remembers."""
    other = copy.copy(agent)
    other.generator = agent.generator.greedily()
    return other


def make_opponents(stage: StagePlan) -> dict[int, Policy]:
    """The policies of the other seats."""
    return {seat: part.make(**part.settings) for seat, part in stage.opponents.items()}


def make_stage(stage: StagePlan, shop: Workshop) -> Any:
    """Everything that the loop needs for one stage."""
    from lapwing.policies.agent import InvalidRule
    from lapwing.rollout.collector import LocalCollector
    from lapwing.training.stages import Stage, no_credit

    agent = make_agent(stage, shop, taught=True)
    game = make_game(stage.game)
    from lapwing.games.game import for_split

    return Stage(
        name=stage.name,
        iterations=stage.settings.iterations,
        checkpoint_every=stage.settings.checkpoint_every,
        evaluate_every=stage.evaluation.settings["every"],
        seed=rng.fold(0, stage.name, shop.seed),
        sampler=stage.sampler.make(
            for_split(game, "train"), seed=rng.fold(0, stage.name, shop.seed), **stage.sampler.settings
        ),
        collector=LocalCollector(
            agent, opponents=make_opponents(stage), invalid=InvalidRule(**_invalid_settings(stage.policy))
        ),
        policy=agent,
        credit=no_credit if stage.credit is None else _bind(stage.credit),
        credit_level="step" if stage.credit is None else _constant(stage.credit, "LEVEL", "step"),
        make_annotators=functools.partial(_make_annotators, stage, shop),
        shaping=[_bind(part) for part in stage.shaping],
        filters=[_bind(part) for part in stage.filters],
        modulation=[_bind(part) for part in stage.modulation],
        selection=_bind(stage.selection),
        aggregation=_bind(stage.aggregation),
        make_learner=functools.partial(_make_learner, stage, shop),
        forget=agent.generator.forget,
    )


def _make_annotators(stage: StagePlan, shop: Workshop, reference: Path) -> list[Any]:
    return [part.make(shop.model, weights=reference, **part.settings) for part in stage.annotate]


def _bind(part: Part) -> Callable[..., Any]:
    return functools.partial(part.make, **part.settings)


def _constant(part: Part, name: str, default: Any) -> Any:
    return getattr(inspect.getmodule(part.make), name, default)


def _tensors_of(part: Part) -> tuple[str, ...]:
    return tuple(name for name in inspect.signature(part.make).parameters if name in _LOSS_TENSORS)


def _make_learner(stage: StagePlan, shop: Workshop) -> Any:
    from lapwing.training.learner import AdamW, Learner, Regulariser, Schedule

    generation = stage.generation.settings
    return Learner(
        shop.model,
        loss=_bind(stage.loss),
        loss_needs=[name for name in _tensors_of(stage.loss) if name != "logprob"],
        mergeable=_constant(stage.loss, "MERGEABLE", False),
        regularisers=[
            Regulariser(
                name=part.name,
                loss=_bind(part),
                needs=_tensors_of(part),
                coefficient=Schedule(
                    extra.coefficient,
                    extra.coefficient if extra.final_coefficient is None else extra.final_coefficient,
                    until=extra.until,
                ),
                over=extra.over,
            )
            for part, extra in stage.regularisers
        ],
        optimizer=AdamW(**stage.optimizer.settings),
        seed=rng.fold(0, stage.name, shop.seed),
        temperature=generation["temperature"],
        batch_tokens=generation["batch_tokens"],
        row_tokens=generation["row_tokens"],
    )


def make_play(stage: StagePlan) -> Callable[[Policy, list[Match]], list[Episode]]:
    """Plays matches for evaluation: the rule for invalid replies as in training, but without their penalty."""
    from lapwing.policies.agent import InvalidRule
    from lapwing.rollout.collector import LocalCollector

    invalid = InvalidRule(**{**_invalid_settings(stage.policy), "penalty": 0.0})
    opponents = make_opponents(stage)

    def play(policy: Policy, matches: list[Match]) -> list[Episode]:
        return LocalCollector(policy, opponents=opponents, invalid=invalid).play(matches)

    return play


def make_baselines(stage: StagePlan) -> dict[str, Policy]:
    """The baselines that the stage's game supports: random always, heuristic and optimal where there are such."""
    from lapwing.games.game import has_exact_outcomes
    from lapwing.policies import baselines as found

    game = make_game(stage.game)
    policies: dict[str, Policy] = {"random": found.Random()}
    if callable(getattr(game, "heuristic", None)):
        policies["heuristic"] = found.Heuristic()
    if has_exact_outcomes(game) and game.num_players == 1:
        policies["optimal"] = found.Optimal()
    return policies


def with_game(stage: StagePlan, settings: Mapping[str, Any]) -> StagePlan:
    """The same stage on a game with other settings, or on another game if `name` is among them.

    Raises:
      UserError: the settings do not fit the game.
    """
    checker = _Checker(())
    name = settings.get("name", stage.game.name)
    own = {k: v for k, v in settings.items() if k not in ("name", "max_steps")}
    base = stage.game.settings if name == stage.game.name else {}
    part = checker.part("game", "game", {"name": name, **_lists(base), **own})
    game = None if part is None else _construct(checker, "game", part.make, part.settings)
    if game is not None and game.num_players != make_game(stage.game).num_players:
        checker.errors.append("game: it has another number of seats.")
    cap = settings.get("max_steps", 1)
    if isinstance(cap, bool) or not isinstance(cap, int) or cap < 1:
        checker.errors.append(f"max_steps is a whole number of at least 1, not {cap!r}.")
    if checker.errors:
        raise UserError(" ".join(checker.errors))
    assert part is not None
    return dataclasses.replace(stage, game=part)
