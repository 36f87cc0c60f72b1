import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.core.types import Match
from lapwing.games.bandit_suite import BanditSuite, BanditSuiteState
from lapwing.games.chain import Chain
from lapwing.games.contextual_bandit import ContextualBandit
from lapwing.policies.baselines import Random
from lapwing.policies.renderers import Bandits, Coordinates, Grid
from lapwing.rollout.play import play

GAME = BanditSuite(arms=3, horizon=20)
#   a: 4 pulls, 3 payoffs; b: 1 pull; c: none
STATE = BanditSuiteState((50, 60, 10), (4, 1, 0), (300, 0, 0), (1, 0), found_late=False)
VIEW = GAME.view(STATE, 0)


def shown(view, **settings):
    return Bandits(**settings).messages(view)[-1]["content"]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"evidence": "last"}, "round 5 of 20 last b paid 0.00"),
        ({}, "round 5 of 20 a pulled 4 mean 0.75 b pulled 1 mean 0.00 c pulled 0 mean none"),
        #   √(2 ln 5 / 4) = 0.897, √(2 ln 5) = 1.794
        (
            {"evidence": "guided"},
            "round 5 of 20 a value 0.75 bonus 0.90 b value 0.00 bonus 1.79 c value 0.00 bonus new",
        ),
        ({"evidence": "index", "digits": 1}, "round 5 of 20 a index 1.6 b index 1.8 c index new"),
        ({"evidence": "last", "scenario": "buttons"}, "round 5 of 20 last b green button paid 0.00"),
        ({"evidence": "last", "scenario": "videos"}, "round 5 of 20 last b video paid 0.00"),
    ],
)
def test_the_evidence_is_shown_as_asked_for(settings, text):
    assert shown(VIEW, **settings) == text


def test_before_the_first_pull_nothing_was_paid():
    view = GAME.view(GAME.initial(generator("first")), 0)
    assert shown(view, evidence="last") == "round 0 of 20 last none"


def test_other_renderers_show_the_summary():
    for renderer in (Grid(), Coordinates()):
        assert renderer.messages(VIEW)[-1]["content"] == shown(VIEW)


def test_features_come_first():
    game = ContextualBandit(arms=2, features=2, horizon=9)
    view = game.view(game.initial(generator("features")), 0)
    signs = " ".join("+" if x > 0 else "-" for x in view.context)
    assert shown(view, evidence="last") == f"round 0 of 9 sees {signs} last none"
    #   d = 3 and nothing seen: bonus √3
    assert shown(view, evidence="guided") == (
        f"round 0 of 9 sees {signs} a value 0.00 bonus 1.73 b value 0.00 bonus 1.73"
    )


def test_the_rules_are_those_of_the_scenario():
    said = Bandits(scenario="videos", instructions=True).messages(VIEW)[0]
    assert said["role"] == "system"
    assert "videos" in said["content"]
    assert Bandits(instructions="my own").messages(VIEW)[0]["content"] == "my own"


@pytest.mark.parametrize("game", [GAME, BanditSuite(kind="gaussian", horizon=8), ContextualBandit(horizon=12)])
@pytest.mark.parametrize("evidence", ["last", "summary", "guided", "index"])
@pytest.mark.parametrize("digits", [0, 1, 2])
def test_every_word_that_is_shown_was_announced(game, evidence, digits):
    # Fails when a number, a name or a word is missing from the vocabulary of the tiny model.
    renderer = Bandits(evidence=evidence, scenario="buttons", digits=digits, instructions=True)
    start = game.view(game.initial(generator("words")), 0)
    known = renderer.words(start)
    for episode in play([Match(game, 0, "test", 0, group, 0, 99) for group in range(5)], {0: Random()}):
        for step in episode.steps:
            for message in renderer.messages(step.view):
                assert set(message["content"].split()) <= known


@pytest.mark.parametrize("settings", [{"evidence": "all"}, {"scenario": "cars"}, {"digits": 4}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError, match=r"renderer\."):
        Bandits(**settings)


def test_another_game_is_refused():
    game = Chain()
    with pytest.raises(UserError, match="shows bandit_suite and contextual_bandit"):
        Bandits().messages(game.view(game.initial(generator("other")), 0))
