"""Models at a server: agents and opponents whose replies come over the network, with no weights of ours."""

from collections.abc import Callable, Mapping
from typing import Any

from lapwing.build.schema import Checker, Part, parameters_of
from lapwing.build.stage_plan import StagePlan
from lapwing.core.errors import UserError

# The generation that needs no model of ours, and opponents of the same name.
SERVER = "openai_api"


def generators() -> dict[str, Callable[..., Any]]:
    """What `generation` may name."""
    from lapwing.generation.openai_api import OpenAIAPI
    from lapwing.generation.transformers import Transformers
    from lapwing.generation.vllm import VLLM

    return {"transformers": Transformers, SERVER: OpenAIAPI, "vllm": VLLM}


def names_server(generation: Any) -> bool:
    """Whether a `generation` section as read names a server."""
    return isinstance(generation, Mapping) and generation.get("name") == SERVER


def is_served(stage: StagePlan) -> bool:
    """Whether the replies of a stage's agent come from a server."""
    return stage.generation.name == SERVER


def asks_server(stage: StagePlan) -> bool:
    """Whether an opponent of a stage is a model behind a server."""
    return any(part.name == SERVER for part in (*stage.opponents.values(), *stage.evaluation_opponents.values()))


def refuse_served(stage: StagePlan) -> None:
    """Refuse to train what has no weights here.

    Raises:
      UserError: the replies come from a server.
    """
    if is_served(stage):
        raise UserError(
            f"Stage '{stage.name}': replies of generation.name = '{SERVER}' have no tokens that could be trained on; "
            "it is for `lapwing eval`. Choose transformers or vllm."
        )


def served_model() -> None:
    """A model at a server is only a name."""


def plan_served_model(checker: Checker, where: str, table: Any) -> Part | None:
    """The `model` section of a stage whose replies come from a server: a name, which no folder need have.

    Settings for loading weights, as the recipe of a run has them, do not matter.
    """
    name = table.get("name") if isinstance(table, Mapping) else table
    if not isinstance(name, str) or not name:
        checker.errors.append(f"{where} needs the model's name at the server; found {name!r}.")
        return None
    return Part(name, served_model, {})


def plan_opponent(checker: Checker, where: str, table: Any, known: Mapping[str, Callable[..., Any]]) -> Part | None:
    """An opponent: one of those known, or a model at a server with its name there and the settings of the client."""
    from lapwing.generation.openai_api import OpenAIAPI
    from lapwing.policies.chat_agent import openai_opponent

    if not names_server(table):
        return checker.chosen(where, table, {**known, SERVER: openai_opponent}, "scripted")
    rest = {key: value for key, value in table.items() if key not in ("name", "model")}
    settings = checker.settings(where, OpenAIAPI, rest)
    if not isinstance(table.get("model"), str):
        checker.errors.append(f"{where}.model is the name of a model at the server; found {table.get('model')!r}.")
    return Part(SERVER, openai_opponent, {"model": table.get("model"), **settings})


def forget_other_settings(generation: dict[str, Any], before: Mapping[str, Any]) -> None:
    """Take out what another generator was set to, now that the section names this one.

    Args:
      generation: the section with the overrides of the user.
      before: the section without them.
    """
    make = generators().get(generation.get("name", "transformers"))
    if make is None or generation.get("name") == before.get("name"):
        return
    known = parameters_of(make)
    for key in set(before) - {"name"}:
        if key not in known and generation[key] == before[key]:
            del generation[key]
