"""The page of all games: every game is on it, and its numbers are those of the games as they are now."""

import runpy

import pages
import pytest

from lapwing.core import registry
from lapwing.core.errors import LapwingError


@pytest.fixture(scope="module")
def numbers():
    return runpy.run_path(str(pages.DOCS / "games_numbers.py"))


@pytest.fixture(scope="module")
def tables(numbers):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(pages.DOCS)
        yield runpy.run_path(str(pages.DOCS / "games_tables.py"))


@pytest.mark.parametrize("name", registry.names("games"))
def test_a_game_plays_as_it_did_when_it_was_measured(name, numbers):
    for entry in numbers["read"]().get(name, []):
        try:
            game = registry.resolve("games", name)(**entry["settings"])
            found = numbers["digest"](game)
        except (LapwingError, ImportError) as error:
            pytest.skip(f"{name} cannot be played here: {error}")
        assert found == entry["digest"], f"measure it again: python docs/games_numbers.py {name}"
        assert entry["null_ceiling"] == getattr(game, "null_ceiling", None)
        best = getattr(game, "best_known", None)
        assert entry["best_known"] == (None if best is None else list(best))


def test_the_best_known_of_snake_is_the_mean_that_was_measured(numbers):
    entry = numbers["read"]()["snake"][0]
    assert entry["best_known"][0] == pytest.approx(entry["heuristic"]["return"], abs=0.005)


def test_the_longest_match_by_hand(numbers):
    from lapwing.games.bandit import Bandit
    from lapwing.games.chain import Chain
    from lapwing.games.frozen_lake import FrozenLake
    from lapwing.games.tic_tac_toe import TicTacToe
    from lapwing.policies.baselines import Random

    longest = {
        type(game).__name__: numbers["_longest"](numbers["solved"](game, opponents=opponents))
        for game, opponents in (
            (Bandit(), {}),
            (Chain(length=5, delay=2), {}),
            (TicTacToe(), {1: Random()}),
            (FrozenLake(map_name="4x4"), {}),
        )
    }
    assert longest == {"Bandit": 1, "Chain": 5, "TicTacToe": 9, "FrozenLake": None}


def test_a_game_that_was_never_measured_or_has_no_package_has_its_place(tables):
    row = tables["_row"]("new_game", {"settings": {}})
    assert row == ("[new_game](#new_game)", *("–",) * 7)


def test_settings_become_a_list_and_the_rest_stays():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(pages.DOCS)
        markdown = runpy.run_path(str(pages.DOCS / "games_tables.py"))["_markdown"]
    text = "Rules.\n\n    a = b\n\nAttributes:\n  size: of it,\n    in cells.\n  map: of it.\n\nReference: none."
    assert markdown(text) == (
        "Rules.\n\n    a = b\n\nSettings:\n\n- `size`: of it,\n    in cells.\n- `map`: of it.\n\nReference: none."
    )
