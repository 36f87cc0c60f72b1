"""What Python gives as settings stands in a recipe as TOML, games too."""

import dataclasses
import tomllib

import pytest

import lapwing
from lapwing import build
from lapwing.api.as_toml import as_toml
from lapwing.core.errors import UserError
from lapwing.games.frozen_lake import FrozenLake
from lapwing.games.matrix_game import MatrixGame
from lapwing.games.mixture import Mixture


def read(value):
    return tomllib.loads(f"value = {as_toml(value)}")["value"]


@pytest.mark.parametrize(
    "value", [3, 0.5, True, 'a "quoted" text', [1, 2], {"a key": {"b": [1.5, "c"]}}, [{"name": "chain"}]]
)
def test_what_is_written_is_read(value):
    assert read(value) == value


# Fails when a setting is forgotten, or when one that says nothing is written.
@pytest.mark.parametrize(
    "game",
    [
        FrozenLake(),
        FrozenLake(map_name="4x4", slippery=True),
        MatrixGame(game="custom", payoffs=((1, -1), (-1, 1)), actions=("x", "y"), rounds=3),
        Mixture(games=({"name": "chain", "length": 4}, {"name": "bandit", "weight": 2.0})),
    ],
    ids=lambda game: type(game).__name__,
)
def test_a_game_is_the_table_that_makes_it(game):
    table = read(game)
    section = build.read_recipe("frozen_lake_fixed_tiny", overrides=[f"game={as_toml(game)}"]).stages[-1]["game"]
    assert section == table
    name = table.pop("name")
    made = build.make_game(build.game_plan(name, [f"game.{key}={as_toml(item)}" for key, item in table.items()]).game)
    assert made == game
    if isinstance(game, Mixture):  # its games are no part of what makes two mixtures equal
        assert made.games == game.games


def test_a_game_of_gymnasium_takes_the_place_of_a_recipes():
    game = lapwing.from_gymnasium("Taxi-v4", options={"is_rainy": True})
    assert read(game) == {"name": "gymnasium", "env": "Taxi-v4", "options": {"is_rainy": True}}


@dataclasses.dataclass(frozen=True)
class Outside:
    size: int = 3


def test_a_game_of_another_package_is_named_by_its_module():
    assert read(Outside(4)) == {"name": f"{__name__}:Outside", "size": 4}


def test_what_no_recipe_can_hold_is_refused():
    with pytest.raises(UserError, match="describe of Gymnasium is a function"):
        as_toml(lapwing.from_gymnasium("CartPole-v1", describe=str))
    with pytest.raises(UserError, match="cannot be a setting"):
        as_toml({"a": object()})
