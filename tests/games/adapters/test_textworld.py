"""TextWorld's generated games; against the real package. Games are made once and kept in the cache."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.core.types import Match
from lapwing.games.adapters._textworld_views import cleaned, room_of, without
from lapwing.games.adapters.textworld import Textworld, TextworldView, _made, _replayer
from lapwing.games.contract import check_game
from lapwing.policies.baselines import Heuristic, Random
from lapwing.policies.renderers import Coordinates, Grid
from lapwing.rollout.play import play

COINS = Textworld()
# One game each: making one takes seconds.
HOUSE = Textworld("simple", split="train")
MEAL = Textworld("cooking", split="train")


def walked(game, state):
    """The heuristic's match from a state: its commands, points and last transition."""
    commands, points = [], 0.0
    for _ in range(60):
        commands.append(game.heuristic(state, 0))
        transition = game.step(state, {0: commands[-1]}, generator(0))
        points += transition.reward[0]
        state = transition.state
        if transition.terminated:
            return commands, points, transition
    raise AssertionError("the walkthrough does not end")


def test_the_games_keep_the_contract_also_in_another_process():
    check_game(COINS, matches=3, max_steps=12)


def test_a_text_that_is_no_command_keeps_the_contract():
    check_game(Textworld(open_ended=True), matches=2, max_steps=8, other_process=False)


@pytest.mark.parametrize("game", [COINS, HOUSE, MEAL], ids=lambda game: game.challenge)
def test_the_walkthrough_earns_all_points(game):
    most = []
    for probability, state in game.initial_outcomes():
        assert probability == pytest.approx(1 / len(game.numbers))
        commands, points, transition = walked(game, state)
        assert transition.success == {0: True}
        assert "*** The End ***" in game.view(transition.state, 0).feedback
        maximum = json.loads(Path(game._file(state.game)).with_suffix(".json").read_text("utf-8"))
        rewards = [quest["reward"] for quest in maximum["quests"] if quest["win_events"] or quest["reward"] > 0]
        assert points == sum(rewards)
        assert all(command not in ("look", "inventory") for command in commands)
        most.append(points)
    assert game.best_known.score == pytest.approx(sum(most) / len(most))


def test_the_walkthrough_leads_on_from_wherever_the_player_is():
    state = HOUSE.initial(generator(0))
    full = HOUSE.best_known.score
    rng, earned = generator("astray"), 0.0
    for _ in range(12):
        legal = [command for command in HOUSE.legal(state, 0) if not command.startswith("eat")]
        transition = HOUSE.step(state, {0: legal[int(rng.integers(len(legal)))]}, rng)
        earned, state = earned + transition.reward[0], transition.state
    _, points, transition = walked(HOUSE, state)
    assert transition.success == {0: True}
    assert earned + points == full


def test_who_leaves_the_walkthrough_is_led_back_to_it():
    state = HOUSE.initial_outcomes()[0][1]
    way = HOUSE.walkthrough(state)
    looked = HOUSE.step(state, {0: "look"}, generator(0)).state
    assert HOUSE.walkthrough(looked) == way
    followed = HOUSE.step(state, {0: way[0]}, generator(0)).state
    assert HOUSE.walkthrough(followed) == way[1:]


def test_eating_the_meal_loses():
    start = HOUSE.initial_outcomes()[0][1]
    state, lost = start, None
    for _ in range(40):
        eat = [command for command in HOUSE.legal(state, 0) if command.startswith("eat")]
        transition = HOUSE.step(state, {0: eat[0] if eat else HOUSE.heuristic(state, 0)}, generator(0))
        state = transition.state
        if transition.terminated:
            lost = transition.success
            break
    assert lost == {0: False}
    assert HOUSE.walkthrough(state) == ()


def test_views_tell_what_the_player_may_know():
    state = HOUSE.initial_outcomes()[0][1]
    view = HOUSE.view(state, 0)
    assert view.objective.startswith("The dinner is almost ready!")
    assert view.feedback == ""
    assert room_of(view.description) == "Bedroom"
    assert view.inventory == "You are carrying nothing."
    assert {"open chest drawer", "open antique trunk", "look", "examine chest drawer"} <= set(view.commands)
    after = HOUSE.step(state, {0: "open chest drawer"}, generator(0)).state
    assert HOUSE.view(after, 0).feedback.startswith("You open the chest drawer")
    for text in (view.objective, view.feedback, view.description, view.inventory):
        assert "walkthrough" not in text
        assert "$" not in text
        assert not text.startswith(">")


def test_commands_that_only_look_can_be_left_out():
    state = HOUSE.initial_outcomes()[0][1]
    few = Textworld("simple", split="train", looking=False)
    assert set(few.legal(state, 0)) == {"open chest drawer", "open antique trunk"}
    assert few.view(state, 0).commands == few.legal(state, 0)
    assert set(few.legal(state, 0)) < set(HOUSE.legal(state, 0))


def test_any_text_can_be_said_and_nonsense_changes_nothing():
    game = Textworld("simple", split="train", open_ended=True)
    state = game.initial_outcomes()[0][1]
    assert game.legal(state, 0) is None
    assert game.view(state, 0).commands == ()
    for text in ("dance wildly", "", "open  chest   drawer\n", "xyzzy " * 100, game.malformed("no tag")):
        transition = game.step(state, {0: text}, generator(0))
        opened = text.split() == ["open", "chest", "drawer"]
        assert (transition.state.scene.facts != state.scene.facts) == opened
        assert not transition.terminated


def test_ways_to_one_place_are_one_state():
    state = HOUSE.initial_outcomes()[0][1]

    def after(*commands):
        now = state
        for command in commands:
            now = HOUSE.step(now, {0: command}, generator(0)).state
        return now

    first = after("open chest drawer", "open antique trunk", "close chest drawer", "look")
    second = after("open antique trunk", "open chest drawer", "close chest drawer", "look")
    assert first.scene.facts == second.scene.facts
    assert first == second
    assert first.way.moves[0] != second.way.moves[0]
    assert after("open chest drawer") != after("open antique trunk")


def test_a_state_is_restored_in_an_interpreter_that_never_saw_it():
    state = COINS.initial(generator(1))
    command = COINS.legal(state, 0)[0]
    once = COINS.step(state, {0: command}, generator(0)).state
    again = _replayer.__wrapped__(COINS._file(state.game))
    moved = again.step(once.way, {0: "look"}, generator(0))
    assert moved.state.scene.facts == once.scene.facts
    assert moved.state.moves[0][0] == ((0, command),)


def test_splits_have_games_of_their_own():
    game = Textworld(games=3, held_out=2, first_seed=10)
    seeds = {split: game.for_split(split).numbers for split in ("train", "development", "test", "all")}
    assert seeds == {"train": (10, 11, 12), "development": (13, 14), "test": (15, 16), "all": tuple(range(10, 17))}
    same = Textworld(games=3, held_out=0)
    assert {same.for_split(split).numbers for split in seeds} == {(0, 1, 2)}
    texts = {game.view(state, 0) for _, state in COINS.initial_outcomes()}
    assert len(texts) == 3


def test_a_game_is_made_once_and_never_in_half(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPWING_CACHE", str(tmp_path))
    _made.cache_clear()
    key = Textworld("treasure_hunter")._key
    file = Path(_made("treasure_hunter", key, 3, (3,)))
    before = file.stat().st_mtime_ns, file.read_bytes()
    assert sorted(path.name for path in file.parent.iterdir() if path.suffix in (".z8", ".json")) == [
        "game.json",
        "game.z8",
    ]
    assert not [path for path in file.parent.parent.iterdir() if "making-" in path.name or path.suffix == ".making"]
    _made.cache_clear()
    assert Path(_made("treasure_hunter", key, 3, (3,))) == file
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before
    own = Textworld(path=str(file))
    assert own.numbers == (0,)
    assert walked(own, own.initial(generator(0)))[2].success == {0: True}
    _made.cache_clear()


def test_what_the_maker_refuses_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPWING_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"TextWorld could not make a game of 'treasure_hunter': ValueError: Expected"):
        Textworld("treasure_hunter", settings={"level": 99}).initial(generator(0))


def test_policies_play_it():
    matches = [Match(HOUSE, 0, "train", 0, group, 0, 30) for group in range(4)]
    walks = play(matches, {0: Heuristic()})
    assert all(episode.success for episode in walks)
    assert {episode.domain_return for episode in walks} == {HOUSE.best_known.score}
    drawn = play(matches, {0: Random()})
    assert not any(episode.success for episode in drawn)
    assert all(sum(step.parts["score"] for step in e.steps) == e.domain_return for e in drawn)


def test_renderers_tell_all_or_little():
    view = HOUSE.view(HOUSE.initial_outcomes()[0][1], 0)
    [whole] = Grid().messages(view)
    for part in (view.objective, view.description, view.inventory, *view.commands):
        assert part in whole["content"]
    [short] = Coordinates().messages(view)
    assert short["content"].startswith("goal : The dinner is almost ready ! ")
    assert "room : Bedroom carry : You are carrying nothing . commands : " in short["content"]
    assert set(short["content"].split()) | set(whole["content"].split()) <= Grid().words(view)
    assert set(short["content"].split()) <= HOUSE.words() | {"goal", "room", "carry", "commands", ":", ";"}
    empty = TextworldView("Win.", "", "", "", ())
    assert Grid().messages(empty)[0]["content"] == "goal : Win."


def test_the_text_of_the_interpreter_is_cleaned():
    raw = "\n\n  \\$$$$$$$$| $$  >$$\n\n-= Attic =-\nYou see a box. \n\n\n>          -= Attic =-0/1\n"
    assert cleaned(raw) == "-= Attic =-\nYou see a box."
    end = (
        "Done.\n\n  *** The End ***\n\nYou scored 1 out of a possible 1, in 3 turns.\n\nWould you like to RESTART?\n> "
    )
    assert cleaned(end) == "Done.\n*** The End ***"
    assert without("You go.\n-= Attic =-\nYou see a box.", "-= Attic =-\nYou see a box.", "") == "You go."
    assert room_of("no headline") == ""


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"challenge": "coin"}, "There is no challenge 'coin'; did you mean coin_collector"),
        ({"settings": {"levels": 2}}, "The challenge 'coin_collector' has no setting 'levels'; did you mean level"),
        ({"split": "dev"}, "There is no split 'dev'"),
        ({"games": 0}, r"game\.games is a number of games of at least 1"),
        ({"path": "nowhere.z8"}, r"There is no game file 'nowhere\.z8' with its \.json beside it"),
    ],
)
def test_settings_that_are_wrong_are_said(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        Textworld(**settings)


def test_a_missing_package_gives_the_command_that_installs_it():
    code = (
        "import sys\nsys.modules['textworld'] = None\nfrom lapwing.games.adapters.textworld import Textworld\n"
        "from lapwing.core.errors import UserError\nfrom lapwing.core.rng import generator\n"
        "try:\n    Textworld().initial(generator(0))\nexcept UserError as error:\n    print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "lapwing[textworld]"' in found.stdout
