"""The public-goods game of docs/howto/more_games.md, which the page shows whole: its rules for two to four players."""

import numpy as np
import pages
import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.evaluation.null_agents import null_returns
from lapwing.evaluation.references import references
from lapwing.games.contract import check_game
from lapwing.policies.baselines import Heuristic

RNG = generator("public goods")


@pytest.fixture(scope="module")
def public_goods():
    """The class of the first block, and what the second block asserts holds."""
    namespace = {"__name__": "page"}
    blocks = [fence for fence in pages.fences(pages.DOCS / "howto" / "more_games.md") if fence.language == "python"]
    assert len(blocks) == 2
    for fence in blocks:
        exec(compile(fence.text, f"more_games.md, line {fence.line}", "exec"), namespace)
    return namespace["PublicGoods"]


@pytest.mark.parametrize("seats", [2, 3, 4])
def test_it_keeps_the_promises_of_a_game(public_goods, seats):
    game = public_goods(seats=seats, factor=1.5)
    check_game(game, other_process=False, matches=5)
    for found in null_returns(game, range(60)):
        assert not found.exceeds(game.null_ceiling), found.agent


def test_a_round_by_hand(public_goods):
    game = public_goods(seats=4, factor=2.0, length=2)
    transition = game.step(game.initial(RNG), {0: "give", 1: "give", 2: "keep", 3: "keep"}, RNG)
    # Two tokens become four, one for each; who kept has another.
    assert transition.reward == {0: 1.0, 1: 1.0, 2: 2.0, 3: 2.0}
    assert not transition.terminated
    assert game.view(transition.state, 0).others == (1,)
    assert game.view(transition.state, 3).others == (2,)
    assert game.step(transition.state, dict.fromkeys(range(4), "keep"), RNG).terminated


def test_all_are_best_off_to_give_and_each_to_keep(public_goods):
    game = public_goods(seats=2, factor=1.5, length=1)
    both, none = (
        game.step(game.initial(RNG), dict.fromkeys((0, 1), action), RNG).reward[0] for action in ("give", "keep")
    )
    alone = game.step(game.initial(RNG), {0: "keep", 1: "give"}, RNG).reward[0]
    assert none < both < alone


def test_the_heuristic_stops_where_somebody_else_keeps(public_goods):
    game = public_goods(seats=3)
    state = game.step(game.initial(RNG), {0: "give", 1: "give", 2: "keep"}, RNG).state
    assert [game.heuristic(state, seat) for seat in range(3)] == ["keep", "keep", "give"]


def test_best_play_against_the_conditional_gives_to_the_last_round(public_goods):
    for seats, factor in ((2, 1.5), (4, 3.0)):
        game = public_goods(seats=seats, factor=factor, length=3)
        opponents = {seat: Heuristic() for seat in range(1, seats)}
        last = 1.0 + factor * (seats - 1) / seats
        expected = 2 * factor + last
        np.testing.assert_allclose(references(game, opponents=opponents, max_steps=3)["optimal"]["return"], expected)


@pytest.mark.parametrize("settings", [{"seats": 5}, {"seats": 1}, {"factor": 3.0}, {"factor": 1.0}, {"length": 0}])
def test_what_is_no_dilemma_is_refused(public_goods, settings):
    with pytest.raises(UserError):
        public_goods(**settings)
