"""What every game promises; the games are found by listing their folder."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lapwing.core.protocols import Game
from lapwing.core.registry import names, resolve
from lapwing.games.contract import check_game, transcript_digest

GAMES = names("games")
TESTS = Path(__file__).parent.parent / "games"

FRESH = """
import json, sys
from lapwing.core.registry import resolve
from lapwing.games.contract import transcript_digest
found = {}
for name in sys.argv[1:]:
    game = resolve("games", name)()
    found[name] = [transcript_digest(game, seed, matches=1) for seed in (4, 3, 2, 1, 0)][::-1]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def fresh_digests():
    """Digests of five matches of every game, played backwards in another process with another hash seed."""
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-c", FRESH, *GAMES]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(finished.stdout)


def test_games_are_found():
    assert {"bandit", "frozen_lake", "snake"} <= set(GAMES)


@pytest.mark.parametrize("name", GAMES)
def test_it_keeps_the_contract(name):
    game = resolve("games", name)()
    assert isinstance(game, Game)
    # The tests below play it in another process, all games in one.
    check_game(game, other_process=False)


@pytest.mark.parametrize("name", GAMES)
def test_the_same_seed_is_the_same_match_in_a_fresh_process(name, fresh_digests):
    game = resolve("games", name)()
    assert [transcript_digest(game, seed, matches=1) for seed in range(5)] == fresh_digests[name]


@pytest.mark.parametrize("name", GAMES)
def test_it_is_documented_and_tested(name):
    documentation = inspect.getdoc(resolve("games", name)) or ""
    for needed in ("| action |", "Reward:"):
        assert needed in documentation, f"the docstring of {name} has no '{needed}'"
    places = [TESTS / f"test_{name}.py", TESTS / "adapters" / f"test_{name}.py"]
    assert any(place.exists() for place in places), f"write tests/games/test_{name}.py"
