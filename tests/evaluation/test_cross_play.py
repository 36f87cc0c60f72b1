import pytest

from lapwing.core.errors import UserError
from lapwing.evaluation.cross_play import cross_play, rate
from lapwing.games.chain import Chain
from lapwing.games.tic_tac_toe import TicTacToe
from lapwing.policies.baselines import Heuristic, Random, Scripted, plain_decision

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
