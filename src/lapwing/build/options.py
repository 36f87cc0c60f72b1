"""What the sections of a stage may name, and which settings each of these has."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lapwing.build.collectors import collectors
from lapwing.build.schema import FOLDER_OF, parameters_of
from lapwing.build.served import generators
from lapwing.build.stage_plan import PolicySettings, RegulariserSettings, StageSettings
from lapwing.core import registry
from lapwing.core.errors import LapwingError

Makers = Mapping[str, Callable[..., Any]]

_BASELINES = ("random", "legal_random", "heuristic", "optimal", "noisy_expert", "scripted", "guess", "demonstrator")
_BANDIT_PLAYERS = ("ucb1", "lin_ucb", "thompson", "greedy", "bayes")
LISTS = ("annotate", "shaping", "filters", "modulation", "corrections", "regularisers")
# What a section is that does not say its name.
_DEFAULTS = {
    "policy.renderer": "coordinates",
    "policy.context": "state_only",
    "policy.parser": "bare",
    "policy.teacher": "noisy_expert",
    "generation": "transformers",
    "collector": "local",
    "learner": "accelerate",
    "optimizer": "adamw",
    "model": "tiny",
    "sampler": "grouped",
    "selection": "all_episodes",
    "aggregation": "token_mean",
}


def renderers() -> Makers:
    """What `policy.renderer` may name."""
    from lapwing.policies import renderers

    return {
        "grid": renderers.Grid,
        "coordinates": renderers.Coordinates,
        "tool_dialogue": renderers.ToolDialogue,
        "bandits": renderers.Bandits,
    }


def contexts() -> Makers:
    """What `policy.context` may name."""
    from lapwing.policies import contexts

    return {
        "state_only": contexts.StateOnly,
        "last_k": contexts.LastK,
        "transcript": contexts.Transcript,
        "current_plan": contexts.CurrentPlan,
        "summary": contexts.Summary,
        "scratchpad": contexts.Scratchpad,
    }


def parsers() -> Makers:
    """What `policy.parser` may name."""
    from lapwing.policies import parsers, tool_parser

    return {
        "bare": parsers.Bare,
        "tags": parsers.Tags,
        "hierarchical": parsers.Hierarchical,
        "notes": parsers.Notes,
        "tool_use": tool_parser.ToolUse,
    }


def baselines() -> Makers:
    """The policies that are no language models, by name."""
    from lapwing.policies import bandit_players
    from lapwing.policies import baselines as found

    plain = {name: getattr(found, registry.class_name(name)) for name in _BASELINES}
    return plain | {name: getattr(bandit_players, registry.class_name(name)) for name in _BANDIT_PLAYERS}


def optimizers() -> Makers:
    """What `optimizer` may name."""
    from lapwing.training.learner import AdamW

    return {"adamw": AdamW}


def learners() -> Makers:
    """What `learner` may name."""
    from lapwing.distributed.accelerate_learner import Accelerate

    return {"accelerate": Accelerate}


def models() -> Makers:
    """What `model` may be: the embedded one by its name, any other by a folder or hub id."""
    from lapwing.models.pretrained import pretrained_model
    from lapwing.models.tiny import tiny_model

    return {"tiny": tiny_model, "org/model": pretrained_model}


@functools.lru_cache(maxsize=1)
def _settings() -> dict[str, dict[str, frozenset[str]]]:
    """From a section ("policy.renderer") and the name of something that it may be to the settings of that."""
    from lapwing.evaluation.evaluate import EvaluationSettings
    from lapwing.training.alarms import Alarms

    chosen: dict[str, Makers] = {
        "": {"": StageSettings},
        "policy": {"": PolicySettings},
        "policy.renderer": renderers(),
        "policy.context": contexts(),
        "policy.parser": parsers(),
        "policy.teacher": baselines(),
        "model": models(),
        "generation": generators(),
        "collector": collectors(),
        "learner": learners(),
        "optimizer": optimizers(),
        "evaluation": {"": EvaluationSettings},
        "alarms": {"": Alarms},
    }
    found = {
        section: {name: frozenset(parameters_of(make)) for name, make in of.items()} for section, of in chosen.items()
    }
    for section, folder in FOLDER_OF.items():
        of_folder = {name: frozenset(parameters_of(make)) for name, make in _folder(folder)}
        # A stage with pairs names one of the preferences as its loss.
        section = "loss" if section == "preferences" else section
        found[section] = found.get(section, {}) | of_folder
    extra = frozenset(parameters_of(RegulariserSettings))
    found["regularisers"] = {name: known | extra for name, known in found["regularisers"].items()}
    return found


def _folder(folder: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in registry.names(folder):
        try:
            yield name, registry.resolve(folder, name)
        except (LapwingError, ImportError):  # it needs a package that is not here
            continue


def homes(key: str, stage: Mapping[str, Any]) -> list[str]:
    """The sections of a stage whose settings have a key, as TOML heads them.

    Args:
      key: of a setting.
      stage: its tables; what its sections name comes first, and if nothing there has the key, what they could name.
    """
    here = [_header(section) for section, name in _named(stage) if key in _settings()[section].get(name, ())]
    if here or key == "name":
        return list(dict.fromkeys(here))
    return [
        f"{_header(section)} with name = '{name}'"
        for section, of in _settings().items()
        for name, known in of.items()
        if key in known
    ]


def neighbours(stage: Mapping[str, Any]) -> dict[str, str]:
    """Every setting of what a stage's sections name, with the section's header."""
    found: dict[str, str] = {}
    for section, name in _named(stage):
        for key in _settings()[section].get(name, ()):
            found.setdefault(key, _header(section))
    return found


def _header(section: str) -> str:
    if not section:
        return "[[stage]]"
    return f"[[stage.{section}]]" if section in LISTS else f"[stage.{section}]"


def _named(stage: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each section with the name of what it is in a stage."""
    for section in _settings():
        table: Any = stage
        for key in section.split(".") if section else ():
            table = table.get(key) if isinstance(table, Mapping) else None
        for entry in table if isinstance(table, list) else [table]:
            name = entry.get("name") if isinstance(entry, Mapping) else entry if section == "model" else None
            if section in ("", "policy", "evaluation", "alarms"):
                name = ""
            elif section == "model" and isinstance(name, str) and name != "tiny":
                name = "org/model"
            yield section, name if isinstance(name, str) else _DEFAULTS.get(section, "")
