"""From a recipe to objects: the only room that knows every implementation.

A recipe is TOML: `[[stage]]` tables, each with sections. A section is `name` plus keyword arguments of the thing
named, and its signature is the schema. Everything wrong is reported at once, before any work starts.

    recipe (read) → schema (types) → plan, stage_plan, checks (values) → make (objects)
"""

from lapwing.build.checks import check_solvable, with_game
from lapwing.build.collectors import Origin, is_cloned, played_here
from lapwing.build.limits import most_episodes
from lapwing.build.make import (
    Workshop,
    greedy,
    make_agent,
    make_chat,
    make_earlier_workshop,
    make_game,
    make_generator,
    make_play,
    make_stage,
    make_team,
    make_workshop,
    with_seats,
)
from lapwing.build.measured import make_baselines
from lapwing.build.options import baselines
from lapwing.build.planning import game_part, game_plan, plan, resolved
from lapwing.build.recipe import (
    Recipe,
    as_recipe,
    checked_seed,
    model_recipe,
    outside_packages,
    read_recipe,
    recipe_names,
    with_overrides,
)
from lapwing.build.schema import Part, parameters_of
from lapwing.build.seats import (
    against_fixed,
    check_same_sets,
    is_learnt,
    make_opponents,
    measured_against,
    weight_sets,
)
from lapwing.build.served import asks_server, forget_other_settings, is_served, refuse_served
from lapwing.build.stage_plan import StagePlan

__all__ = [
    "Origin",
    "Part",
    "Recipe",
    "StagePlan",
    "Workshop",
    "against_fixed",
    "as_recipe",
    "asks_server",
    "baselines",
    "check_same_sets",
    "check_solvable",
    "checked_seed",
    "forget_other_settings",
    "game_part",
    "game_plan",
    "greedy",
    "is_cloned",
    "is_learnt",
    "is_served",
    "make_agent",
    "make_baselines",
    "make_chat",
    "make_earlier_workshop",
    "make_game",
    "make_generator",
    "make_opponents",
    "make_play",
    "make_stage",
    "make_team",
    "make_workshop",
    "measured_against",
    "model_recipe",
    "most_episodes",
    "outside_packages",
    "parameters_of",
    "plan",
    "played_here",
    "read_recipe",
    "recipe_names",
    "refuse_served",
    "resolved",
    "weight_sets",
    "with_game",
    "with_overrides",
    "with_seats",
]
