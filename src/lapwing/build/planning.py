"""From a recipe to stage plans; everything that is wrong is reported at once."""

import dataclasses
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from lapwing.build.checks import check_values
from lapwing.build.collectors import collectors, demonstrates
from lapwing.build.options import (
    baselines,
    contexts,
    homes,
    learners,
    neighbours,
    optimizers,
    parsers,
    renderers,
)
from lapwing.build.places import MOST_SENTENCES, all_at_once, plain_key, spoken_of
from lapwing.build.recipe import SECTIONS, SHARED, STAGE_KEYS, TOP_KEYS, Recipe, merged, with_overrides
from lapwing.build.schema import Checker, Part, construct
from lapwing.build.seats import is_learnt, learnt_seats
from lapwing.build.served import generators, names_server, plan_opponent, plan_served_model
from lapwing.build.stage_plan import PolicySettings, RegulariserSettings, StagePlan, StageSettings
from lapwing.core.errors import UserError, closest, likeness, nearest, shown
from lapwing.core.paths import is_folder
from lapwing.core.protocols import Game
from lapwing.games.search.retrievers import provide_encoders


def _text_encoder(path: str) -> Any:
    from lapwing.models.text_encoder import TextEncoder

    return TextEncoder(path)


provide_encoders(_text_encoder)

# Sections in whose place a stage has pairs.
_OF_ADVANTAGES = ("credit", "modulation", "selection", "aggregation", "corrections")
_SEAT = re.compile(r"[0-9]{1,3}")
_MOST_ENTRIES = 100
# So like a key of its section that it is that key with a slip of the hand.
_SLIP = 0.8


def plan(recipe: Recipe, *, allow_code: tuple[str, ...] = ()) -> list[StagePlan]:
    """Check every stage of a recipe and fill in all defaults.

    Raises:
      UserError: anything is wrong; the message lists everything.
    """
    checker = Checker(allow_code)
    main = recipe.stages[-1]
    plans = []
    for stage in recipe.stages:
        shared = {key: main[key] for key in SHARED if key in main}
        if stage is not main and isinstance(shared.get("policy"), Mapping):
            shared["policy"] = {key: value for key, value in shared["policy"].items() if key != "teacher"}
        if stage is not main and demonstrates(shared.get("collector")):
            # What a file demonstrates belongs to the stage that clones it.
            del shared["collector"]
        _check_pairs_alone(checker, recipe, stage)
        plans.append(_plan_stage(checker, merged(shared, stage)))
    unknown = [f"{before}{plain_key(key)} is unknown; {_advice(main)(key, TOP_KEYS)}" for before, key in recipe.unknown]
    if checker.errors or unknown or recipe.wrong:
        errors = _without_repetitions(checker.errors, [stage["name"] for stage in recipe.stages[:-1]])
        raise UserError(all_at_once(recipe.name, [*recipe.wrong, *unknown, *_with_places(recipe, errors)]))
    return typing.cast(list[StagePlan], plans)


def _check_pairs_alone(checker: Checker, recipe: Recipe, stage: Mapping[str, Any]) -> None:
    """Refuse what the text that asks for pairs, or an override, says of advantages: nobody would read it."""
    if "pairs" not in stage:
        return
    own = set(recipe.places.texts((stage["name"], "pairs")).values())
    for key in _OF_ADVANTAGES:
        said = recipe.places.texts((stage["name"], key))
        refused = [path for path, text in said.items() if text in own or text.startswith("--set")]
        if refused:
            path = ".".join(map(str, min(refused, key=len)))
            checker.errors.append(
                f"{path} is not read in a stage with pairs, which learn without advantages; leave it out."
            )


def _with_places(recipe: Recipe, errors: Sequence[str]) -> Iterator[str]:
    """Each error after the file and line, or the override, that it comes from."""
    main = recipe.stages[-1]
    shared = {key: main[key] for key in SHARED if key in main}
    stages = {stage["name"]: merged(shared, stage) for stage in recipe.stages}
    for number, error in enumerate(errors):
        # More are not shown.
        place = recipe.places.find(spoken_of(error, stages), SHARED) if number <= MOST_SENTENCES else None
        yield f"{place or f'Recipe {shown(recipe.name)}'}: {error}"


def _advice(stage: Mapping[str, Any]) -> Callable[[str, Iterable[str]], str]:
    """What to say of a key that its section does not have: the key that was meant, or where it belongs."""

    def advice(key: str, known: Iterable[str]) -> str:
        known = list(known)
        likely = closest(key, known)
        if likely and likeness(key, likely[0]) >= _SLIP:
            return nearest(key, known)
        if key == "seed":
            return "it belongs at the top of the recipe, before the first [[stage]]."
        if key in SECTIONS:
            return f"it belongs directly in a stage, as [stage.{key}]."
        if found := homes(key, stage):
            return f"it belongs in {' or '.join(found[:3])}."
        elsewhere = neighbours(stage)
        if not likely and (others := closest(key, elsewhere, cutoff=_SLIP)):
            return f"did you mean {others[0]} of {elsewhere[others[0]]}?"
        return nearest(key, known)

    return advice


def _without_repetitions(errors: Sequence[str], earlier: Sequence[str]) -> list[str]:
    """What is wrong with a shared section is said once, for the main stage."""
    # Where a key belongs depends on the stage; that nobody knows it does not.
    what = {error: error.partition(" is unknown; ")[0] for error in errors}
    repeated = {
        stage + what[error].removeprefix("main") for error in errors if error.startswith("main") for stage in earlier
    }
    return [error for error in what if what[error] not in repeated]


def _plan_stage(checker: Checker, table: dict[str, Any]) -> StagePlan | None:
    from lapwing.evaluation.evaluate import EvaluationSettings
    from lapwing.training.alarms import AlarmSettings

    where = table["name"]
    if "pairs" in table:
        # What a recipe that it extends says of advantages has no place here.
        table = {key: value for key, value in table.items() if key not in _OF_ADVANTAGES}
    before = checker.count()
    checker.advice = _advice(table)
    for key in [key for key in table if key not in STAGE_KEYS and key not in SECTIONS][:MOST_SENTENCES]:
        checker.unknown += 1
        checker.errors.append(f"{where}.{plain_key(key)} is unknown; {checker.advice(key, (*STAGE_KEYS, *SECTIONS))}")
    keys = {key: table[key] for key in STAGE_KEYS - {"name"} if key in table}
    policy = dict(_table(checker, f"{where}.policy", table.get("policy", {})))
    policy.pop("name", None)
    parts = {key: policy.pop(key, None) for key in ("renderer", "context", "parser", "teacher")}
    lists = {
        key: [
            checker.part(f"{where}.{key}.{i}", key, entry)
            for i, entry in enumerate(_list(checker, f"{where}.{key}", table.get(key, [])))
        ]
        for key in ("annotate", "shaping", "filters", "modulation", "corrections")
    }
    evaluation, measured = table.get("evaluation"), {}
    if isinstance(evaluation, Mapping):
        evaluation, measured = dict(evaluation), evaluation.get("opponents", {})
        evaluation.pop("opponents", None)
    planned: dict[str, Any] = {
        "name": where,
        "settings": construct(checker, where, StageSettings, checker.settings(where, StageSettings, keys)),
        "game": checker.part(f"{where}.game", "game", table.get("game")),
        "opponents": _plan_opponents(
            checker, f"{where}.opponents", table.get("opponents", {}), {**baselines(), **learnt_seats()}
        ),
        "policy": checker.settings(f"{where}.policy", PolicySettings, policy),
        "renderer": checker.chosen(f"{where}.policy.renderer", parts["renderer"], renderers(), "coordinates"),
        "context": checker.chosen(f"{where}.policy.context", parts["context"], contexts(), "state_only"),
        "parser": checker.chosen(f"{where}.policy.parser", parts["parser"], parsers(), "bare"),
        "teacher": None
        if parts["teacher"] is None
        else checker.chosen(f"{where}.policy.teacher", parts["teacher"], baselines(), "noisy_expert"),
        "model": _plan_model(checker, f"{where}.model", table),
        "generation": checker.chosen(f"{where}.generation", table.get("generation"), generators(), "transformers"),
        "sampler": checker.part(f"{where}.sampler", "sampler", _named(table, "sampler", "grouped")),
        **lists,
        "pairs": checker.part(f"{where}.pairs", "pairs", table["pairs"]) if "pairs" in table else None,
        "credit": checker.part(f"{where}.credit", "credit", table["credit"]) if "credit" in table else None,
        "selection": checker.part(f"{where}.selection", "selection", _named(table, "selection", "all_episodes")),
        "aggregation": checker.part(f"{where}.aggregation", "aggregation", _named(table, "aggregation", "token_mean")),
        "loss": checker.part(f"{where}.loss", "preferences" if "pairs" in table else "loss", table.get("loss")),
        "regularisers": _plan_regularisers(checker, f"{where}.regularisers", table.get("regularisers", [])),
        "optimizer": checker.chosen(f"{where}.optimizer", table.get("optimizer"), optimizers(), "adamw"),
        "evaluation": checker.chosen(f"{where}.evaluation", evaluation, {"settings": EvaluationSettings}, "settings"),
        "evaluation_opponents": _plan_opponents(checker, f"{where}.evaluation.opponents", measured, baselines()),
        "alarms": checker.chosen(f"{where}.alarms", table.get("alarms"), {"settings": AlarmSettings}, "settings"),
        "collector": checker.chosen(f"{where}.collector", table.get("collector"), collectors(), "local"),
        "learner": _plan_learner(checker, f"{where}.learner", table.get("learner")),
    }
    if not checker.is_whole(before):
        return None
    found = StagePlan(**planned)
    check_values(checker, where, found)
    return found


def _plan_opponents(
    checker: Checker, where: str, table: Any, known: Mapping[str, Callable[..., Any]]
) -> dict[int, Part | None]:
    """Who plays the other seats."""
    opponents = _table(checker, where, table)
    for seat in opponents:
        if not _SEAT.fullmatch(seat):
            checker.errors.append(f"{where}.{plain_key(seat)} is no seat; seats are numbers from 1.")
    return {
        int(seat): plan_opponent(checker, f"{where}.{seat}", entry, known)
        for seat, entry in opponents.items()
        if _SEAT.fullmatch(seat)
    }


def _plan_regularisers(
    checker: Checker, where: str, table: Any
) -> list[tuple[Part | None, RegulariserSettings | None]]:
    """Each with its coefficient over the course of the stage."""
    found = []
    for i, entry in enumerate(_list(checker, where, table)):
        extra = {f.name: entry[f.name] for f in dataclasses.fields(RegulariserSettings) if f.name in entry}
        part = checker.part(f"{where}.{i}", "regularisers", entry, extra)
        settings = checker.settings(f"{where}.{i}", RegulariserSettings, extra)
        found.append((part, construct(checker, f"{where}.{i}", RegulariserSettings, settings) if settings else None))
    return found


def _plan_learner(checker: Checker, where: str, table: Any) -> Part | None:
    """How several processes train; None where the recipe says nothing of it."""
    return None if table is None else checker.chosen(where, table, learners(), "accelerate")


def _named(table: Mapping[str, Any], section: str, default: str) -> Any:
    """A section that need not say its name."""
    found = table.get(section, {})
    return {"name": default, **found} if isinstance(found, Mapping) else found


def _table(checker: Checker, where: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    checker.errors.append(f"{where} is a table of settings; found {shown(value)}.")
    return {}


def _list(checker: Checker, where: str, value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value):
        if len(value) <= _MOST_ENTRIES:
            return value
        checker.errors.append(f"{where} has at most {_MOST_ENTRIES} entries, not {len(value)}.")
        return []
    checker.errors.append(
        f"{where} is an array of tables, as in [[stage.{where.partition('.')[2]}]]; found {shown(value)}."
    )
    return []


def _plan_model(checker: Checker, where: str, stage: Mapping[str, Any]) -> Part | None:
    from lapwing.models.pretrained import pretrained_model
    from lapwing.models.tiny import tiny_model

    if names_server(stage.get("generation")):
        return plan_served_model(checker, where, stage.get("model"))
    table: Any = stage.get("model", {"name": "tiny"})
    table = {"name": table} if isinstance(table, str) else _table(checker, where, table)
    name = table.get("name", "tiny")
    if not isinstance(name, str) or not name.strip():
        checker.errors.append(f"{where} needs a name, as in {{ name = 'tiny' }}; found {shown(name)}.")
        return None
    make = tiny_model if name == "tiny" else pretrained_model
    rest = {key: value for key, value in table.items() if key != "name"}
    if make is pretrained_model:
        rest["path"] = name
        if not re.fullmatch(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", name) and not is_folder(name):
            checker.errors.append(
                f"{where}: {shown(name)} is neither 'tiny', nor an existing folder, nor a hub id such as 'org/model'."
            )
            return None
    settings = checker.settings(where, make, rest)
    settings.pop("path", None)
    return Part(name, make, settings)


def game_plan(game: str, overrides: Sequence[str] = (), *, allow_code: tuple[str, ...] = ()) -> "StagePlan":
    """A plan for playing a game without any model: its game section, opponents and parser are what matters.

    Args:
      game: its name.
      overrides: `key=value` settings of the game, `opponents.…` and `policy.…`.
      allow_code: packages outside Lapwing whose game may be played.

    Raises:
      UserError: there is no such game or setting.
    """
    stage, recipe = _stage_of(game, overrides)
    checker = Checker(allow_code)
    part = checker.part("game", "game", stage["game"])
    if part is not None and not checker.errors:
        found = construct(checker, "game", part.make, part.settings)
        if found is not None:
            other = "scripted" if callable(getattr(found, "scripted", None)) else "random"
            stage.setdefault("opponents", {str(seat): {"name": other} for seat in range(1, found.num_players)})
            stage.update({name: section | stage.get(name, {}) for name, section in _dialogue_sections(found).items()})
    if checker.errors:
        raise UserError(" ".join(checker.errors))
    planned = plan(recipe, allow_code=allow_code)[-1]
    for seat, opponent in planned.opponents.items():
        if is_learnt(opponent):
            raise UserError(
                f"opponents.{seat}: '{opponent.name}' plays with the weights of a run, and here there is none; name a "
                "baseline such as 'random', or a model at a server."
            )
    return planned


def game_part(game: str, overrides: Sequence[str] = (), *, allow_code: tuple[str, ...] = ()) -> Part:
    """A game with its settings, which need not be playable.

    Args:
      game: its name.
      overrides: `key=value` settings of the game.
      allow_code: packages outside Lapwing whose game may be meant.

    Raises:
      UserError: there is no such game or setting, or the game does not take the settings.
    """
    stage, _ = _stage_of(game, overrides)
    checker = Checker(allow_code)
    part = checker.part("game", "game", stage["game"])
    if part is not None and not checker.errors:
        construct(checker, "game", part.make, part.settings)
    if part is None or checker.errors:
        raise UserError(" ".join(checker.errors))
    return part


def _stage_of(game: str, overrides: Sequence[str]) -> tuple[dict[str, Any], Recipe]:
    """A stage that plays a game with these settings, and the recipe that it is in."""
    stage: dict[str, Any] = {"name": "main", "game": {"name": game}, "loss": {"name": "negative_log_likelihood"}}
    recipe = Recipe(game, 0, (stage,))
    own = ("game.", "opponents.", "policy.")
    with_overrides(recipe, [text if text.startswith(own) else f"game.{text}" for text in overrides])
    return stage, recipe


def _dialogue_sections(game: Game) -> dict[str, Any]:
    """What goes with a game with tools, however long its replies are; nothing for other games."""
    from lapwing.games.tools.dialogue import ToolGame

    if not isinstance(game, ToolGame):
        return {}
    return {
        "policy": {
            "renderer": {"name": "tool_dialogue", "errors": "bare"},
            "parser": {"name": "tool_use", "style": "words"},
            "context": {"name": "transcript"},
        },
        "generation": {"max_tokens": 2**20},
        "sampler": {"max_steps": game.max_turns + 1},
    }


def resolved(recipe: Recipe, plans: Sequence[StagePlan]) -> dict[str, Any]:
    """The recipe with every default filled in, as `recipe.toml` of a run holds it."""
    return {"name": recipe.name, "seed": recipe.seed, "stage": [stage.to_dict() for stage in plans]}
