import numpy as np
import pytest

from lapwing.core.errors import UserError
from lapwing.evaluation.cross_play import _share, cross_play, rate
from lapwing.games.chain import Chain
from lapwing.games.tic_tac_toe import TicTacToe
from lapwing.policies.baselines import Heuristic, Random, Scripted, plain_decision
from lapwing.stats.wilson import wilson

PLAYERS = {"random": Random(), "scripted": Scripted(), "heuristic": Heuristic()}


class LastFree:
    """Always the last free cell."""

    version = 0

    def act_many(self, asks):
        return [(plain_decision(ask.legal[-1]), None) for ask in asks]


class FirstFree:
    """Always the first free cell."""

    version = 0

    def act_many(self, asks):
        return [(plain_decision(ask.legal[0]), None) for ask in asks]


def played(policies=PLAYERS, game=None, **settings):
    given = {"name": "tic_tac_toe", "matches": 20, "seed": 0, "max_steps": 9}
    return cross_play(policies, game or TicTacToe(), **{**given, **settings})


def test_every_pair_meets_in_every_seating():
    found = played()
    met = [(pair["first"], pair["second"]) for pair in found["pairs"]]
    assert met == [("random", "scripted"), ("random", "heuristic"), ("scripted", "heuristic")]
    for pair in found["pairs"]:
        first, second = pair["first"], pair["second"]
        assert [row["seats"] for row in pair["seatings"]] == [[first, second], [second, first]]
        for name in ("wins", "draws", "losses"):
            assert pair[name] == sum(row[name] for row in pair["seatings"])
        assert pair["wins"] + pair["draws"] + pair["losses"] == 40
        assert pair["win"]["mean"] == pair["wins"] / 40
        assert pair["win"]["low"] <= pair["win"]["mean"] <= pair["win"]["high"]
        assert pair["return"]["mean"] == pytest.approx((pair["wins"] - pair["losses"]) / 40)
        assert pair["opponent_return"]["mean"] == pytest.approx(-pair["return"]["mean"])


def test_who_begins_wins_a_race_and_the_counts_are_the_firsts():
    # Fails when a seating gives its wins to the wrong player. Cells from the front: a1 b1 c1; from the back: c3 b3 a3.
    # Whoever begins has its row first.
    policies = {"front": FirstFree(), "back": LastFree()}
    (pair,) = played(policies, TicTacToe(first=0), matches=3)["pairs"]
    assert [(row["wins"], row["losses"]) for row in pair["seatings"]] == [(3, 0), (0, 3)]
    assert (pair["wins"], pair["draws"], pair["losses"]) == (3, 0, 3)
    (pair,) = played(policies, TicTacToe(first=1), matches=3)["pairs"]
    assert [(row["wins"], row["losses"]) for row in pair["seatings"]] == [(0, 3), (3, 0)]


def test_the_stronger_is_rated_higher():
    ratings = {name: row["rating"] for name, row in played(anchor="random")["elo"]["ratings"].items()}
    assert ratings["random"] == 1000.0
    assert ratings["random"] < ratings["scripted"] < ratings["heuristic"]


def test_ratings_come_from_the_counts_by_hand():
    #   3 wins and a draw of 4, and one virtual draw: 4 : 1, 400 · log₁₀ 4 = 240.824
    pairs = [{"first": "a", "second": "b", "wins": 3, "draws": 1, "losses": 0}]
    found = rate(["a", "b"], pairs, "b")
    assert found["ratings"]["a"]["rating"] == pytest.approx(1240.824, abs=1e-3)


def test_the_same_call_gives_the_same_table():
    assert played() == played()
    assert played() != played(seed=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policies": {"random": Random()}}, "at least two players"),
        ({"game": Chain()}, "games of two players"),
        ({"matches": 0}, "at least 1"),
        ({"max_steps": 0}, "at least 1"),
        ({"anchor": "nobody"}, "anchor is one of the players"),
    ],
)
def test_what_cannot_be_played_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        played(**settings)


def of_table(policies, **settings):
    return played(policies, **settings)["pairs"][0]


def test_a_match_that_its_start_settles_counts_once():
    # Two starts, by who begins, in two seatings: whoever begins has its row first.
    pair = of_table({"front": FirstFree(), "back": LastFree()}, matches=40)
    assert (pair["repeats"], pair["different"]) == (True, 4)
    assert pair["wins"] + pair["losses"] == 80
    assert pair["win"]["mean"] == 0.5
    # One win and one loss from either start: worth no more than four trials, and at 1/2 Wilson gives 0.15 … 0.85.
    assert pair["win"]["low"] == pytest.approx(0.15, abs=0.002)
    assert pair["win"]["high"] == pytest.approx(0.85, abs=0.002)
    # Ten times the matches are no further evidence.
    more = of_table({"front": FirstFree(), "back": LastFree()}, matches=400)
    assert (more["different"], more["win"]) == (4, pair["win"])
    # How often each start was drawn differs a little.
    assert more["draw"]["high"] == pytest.approx(pair["draw"]["high"], abs=0.01)
    # The same return from both starts says nothing of others.
    assert pair["return"] == {"mean": 0.0, "low": None, "high": None}


def test_a_single_match_has_no_interval():
    found = played({"front": FirstFree(), "back": LastFree()}, TicTacToe(first=0), matches=50)
    (pair,) = found["pairs"]
    assert (pair["repeats"], pair["different"]) == (True, 2)
    assert pair["win"] == {"mean": 0.5, "low": None, "high": None}
    assert pair["seatings"][0]["return"] == {"mean": 1.0, "low": None, "high": None}
    # Elo takes it for two matches: as wide as from two matches of a win and a loss each.
    wide = rate(["a", "b"], [{"first": "a", "second": "b", "wins": 1, "draws": 0, "losses": 1}], "a")["ratings"]["b"]
    assert found["elo"]["ratings"]["back"] == pytest.approx(wide)


@pytest.mark.parametrize("second", [Random(), Scripted()])
def test_matches_that_chance_tells_apart_count_each(second):
    # Fails when what is drawn within a match is taken for a repetition of its start.
    pair = of_table({"random": Random(), "other": second}, game=TicTacToe(first=0), matches=100)
    assert not pair["repeats"]
    assert pair["different"] > 100
    assert 0.08 < pair["win"]["high"] - pair["win"]["low"] < 0.2


def test_both_seatings_of_a_start_are_one_cluster():
    # Who sits first wins, so that every start holds a win and a loss, and the share is far better known than by chance;
    # it is worth at most its matches.
    mine, cluster = np.array([1.0] * 30 + [0.0] * 30), np.tile(np.arange(30), 2)
    assert _share(mine > 0, cluster, 60) == pytest.approx(wilson(30, 60).to_dict())
    # Won from half of the starts in either seating: worth the starts alone.
    same = np.tile([1.0] * 15 + [0.0] * 15, 2)
    assert _share(same > 0, cluster, 60) == pytest.approx(wilson(15, 30).to_dict())


@pytest.mark.parametrize("matches", [1, 2, 3])
def test_few_matches_have_an_interval_or_none(matches):
    pair = of_table({"random": Random(), "heuristic": Heuristic()}, matches=matches)
    assert (pair["win"]["low"] is None) == (matches == 1)
    assert pair["wins"] + pair["draws"] + pair["losses"] == 2 * matches
