"""What an actor of a remote collector builds: a stage's agent and collector, from nothing but the resolved recipe."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lapwing.build.make import local_collector, make_agent, make_past, make_workshop
from lapwing.build.planning import plan
from lapwing.build.recipe import as_recipe
from lapwing.core.errors import LapwingError


def make_remote(
    recipe: Mapping[str, Any],
    stage_name: str,
    seed: int,
    *,
    weights: str | None = None,
    allow_code: tuple[str, ...] = (),
    trust_remote_code: bool = False,
    dtype: str | None = None,
) -> tuple[Any, Any]:
    """Build the collector of a stage and the model that it plays with, in whatever process this is called.

    Args:
      recipe: resolved, as `resolved` returns it and `recipe.toml` of a run holds it.
      stage_name: of the stage whose matches are played.
      seed: of the run.
      weights: the Hugging Face folder that the run's model was loaded from instead of that of the recipe, if any; it
        says what the model is, and its tensors are replaced by the learner's.
      allow_code: packages outside Lapwing whose code the recipe may name.
      trust_remote_code: run code that comes with a pretrained model.
      dtype: of the learner's model, which "auto" would not find on a machine with another device.

    Returns:
      A `LocalCollector` and its model.

    Raises:
      UserError: the recipe cannot be built here, as where a file that it names is missing on this machine.
      LapwingError: there is no such stage.
    """
    plans = plan(as_recipe(recipe, "remote"), allow_code=allow_code)
    found = [stage for stage in plans if stage.name == stage_name]
    if not found:
        raise LapwingError(f"The recipe has no stage '{stage_name}', only {[stage.name for stage in plans]}.")
    model = plans[-1].model
    if dtype is not None and model.settings.get("dtype") == "auto":
        model = model._replace(settings={**model.settings, "dtype": dtype})
    shop = make_workshop(
        dataclasses.replace(plans[-1], model=model),
        seed,
        weights=None if weights is None else Path(weights),
        trust_remote_code=trust_remote_code,
    )
    agent = make_agent(found[0], shop, taught=True)
    past = make_past(found[0], shop, agent, is_sent=True)
    return local_collector(found[0], [agent], past), shop.model
