"""reasoning-gym's tasks as games of one step; against the real package."""

import subprocess
import sys

import pytest
import reasoning_gym

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.core.types import Match
from lapwing.games.adapters._words import split_words
from lapwing.games.adapters.reasoning_gym import ReasoningGym, ReasoningGymState
from lapwing.games.contract import check_game
from lapwing.policies.baselines import Guess, Heuristic, Scripted
from lapwing.policies.renderers import Coordinates, Grid
from lapwing.rollout.play import play

SUMS = {"min_terms": 2, "max_terms": 2, "max_digits": 1}


def answered(game, number, answer):
    return game.step(ReasoningGymState(number), {0: answer}, generator(0))


@pytest.mark.parametrize("task", ["chain_sum", "propositional_logic", "countdown", "maze", "word_sorting", "syllogism"])
def test_a_task_keeps_the_contract(task):
    check_game(ReasoningGym(task, size=40), matches=3, other_process=False)


@pytest.mark.parametrize("task", ["chain_sum", "leg_counting", "gcd", "spell_backward", "countdown", "mini_sudoku"])
def test_questions_answers_and_scores_are_those_of_the_package(task):
    game = ReasoningGym(task, size=50, question_seed=3)
    dataset = reasoning_gym.create_dataset(task, size=50, seed=3)
    for number in (0, 7, 49):
        entry = dataset[number]
        state = ReasoningGymState(number)
        assert game.view(state, 0).text == entry["question"]
        assert game.heuristic(state, 0) == entry["answer"]
        right = answered(game, number, entry["answer"])
        assert right.outcome == {0: 1.0}
        assert right.success == {0: True}
        assert right.terminated
        for wrong in ("", "perhaps", "1000000"):
            score = dataset.score_answer(wrong, entry)
            assert score < 1.0
            assert answered(game, number, wrong).outcome == {0: pytest.approx(score)}
            assert answered(game, number, wrong).success == {0: False}


def test_settings_reach_the_task():
    game = ReasoningGym(settings=SUMS)
    texts = {game.question(number) for number in range(300)}
    assert all(len(text.partition(": ")[2].split()) == 4 for text in texts)
    assert len(texts) < 201
    assert ReasoningGym(settings=SUMS) == ReasoningGym(settings=dict(reversed(SUMS.items())))
    assert ReasoningGym(settings=SUMS) != ReasoningGym()


def test_no_question_is_in_two_splits():
    game = ReasoningGym(settings=SUMS)
    asked = {}
    for split in ("train", "development", "test"):
        own = game.for_split(split)
        asked[split] = {own.question(own.initial(generator(split, n)).number) for n in range(1500)}
    assert not asked["train"] & asked["test"]
    assert not asked["train"] & asked["development"]
    assert not asked["test"] & asked["development"]
    assert len(asked["train"] | asked["test"] | asked["development"]) == 200
    assert 120 < len(asked["train"]) < 160


def test_a_text_that_the_task_cannot_read_scores_nothing():
    game = ReasoningGym("countdown")
    for text in ("(((", "1/0", "__import__('os')", "\x00", "9" * 3000, "½ + ⅓", "\ud800"):
        assert answered(game, 0, text).success == {0: False}


def test_policies_play_it():
    game = ReasoningGym(settings=SUMS)
    matches = [Match(game.for_split("test"), 0, "test", 0, group, 0, 1) for group in range(200)]
    won = {}
    for policy in (Heuristic(), Guess(), Scripted()):
        episodes = play(matches, {0: policy})
        assert all(episode.terminated and len(episode.steps) == 1 for episode in episodes)
        won[type(policy).__name__] = sum(episode.success for episode in episodes) / 200
    assert won["Heuristic"] == 1.0
    assert 0.0 < won["Guess"] < 0.2
    assert 0.0 < won["Scripted"] < 0.2


def test_a_task_without_an_answer_of_its_own_has_no_heuristic():
    assert hasattr(ReasoningGym(), "heuristic")
    for task in ("graph_color", "propositional_logic"):
        game = ReasoningGym(task)
        assert not hasattr(game, "heuristic")
        with pytest.raises(UserError, match=f"{task} scores answers but names none that is right"):
            game.right_answer(0)


def test_a_question_is_shown_as_it_is_or_word_by_word():
    game = ReasoningGym(settings=SUMS, size=200)
    view = game.view(ReasoningGymState(0), 0)
    [message] = Grid().messages(view)
    assert message["content"] == view.text
    [message] = Coordinates().messages(view)
    assert message["content"].split() == split_words(view.text)
    assert set(message["content"].split()) <= game.words()
    assert set(Coordinates(instructions=True).messages(view)[0]["content"].split()) <= Coordinates(
        instructions=True
    ).words(view)
    assert split_words("3 - -5.5 = x, isn't it?") == ["3", "-", "-5.5", "=", "x", ",", "isn", "'", "t", "it", "?"]


def test_every_answer_is_a_word_of_the_vocabulary():
    game = ReasoningGym(settings=SUMS, size=300)
    assert {game.right_answer(number) for number in range(300)} <= game.words()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"task": "chain_sums"}, "reasoning-gym has no task 'chain_sums'; did you mean chain_sum"),
        ({"settings": {"terms": 3}}, "The task 'chain_sum' refuses its settings"),
        ({"settings": {"min_terms": 0}}, "The task 'chain_sum' refuses its settings"),
        ({"settings": {"seed": 0}}, r"game\.settings\.seed is set by game\.question_seed"),
        ({"size": 1, "split": "development"}, "too few questions for the split 'development'"),
    ],
)
def test_what_cannot_be_played_is_said(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        ReasoningGym(**settings).initial(generator(0))


def test_settings_that_do_not_exist_are_said():
    with pytest.raises(UserError, match="There is no split 'dev'"):
        ReasoningGym(split="dev")
    with pytest.raises(UserError, match=r"game\.size is a number of questions of at least 1, not 0"):
        ReasoningGym(size=0)


MISSING = """
import sys
sys.modules[{package!r}] = None
from lapwing.core.errors import UserError
from lapwing.core.registry import resolve
from lapwing.core.rng import generator
game = resolve("games", {game!r})()
try:
    game.initial(generator(0))
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("game", "package", "extra"),
    [("reasoning_gym", "reasoning_gym", "reasoning-gym"), ("pettingzoo", "pettingzoo", "pettingzoo")],
)
def test_a_missing_package_gives_the_command_that_installs_it(game, package, extra):
    code = MISSING.format(game=game, package=package)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f'pip install "lapwing[{extra}]"' in found.stdout
