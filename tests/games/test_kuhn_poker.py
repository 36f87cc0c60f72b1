import numpy as np
import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.games.contract import check_game
from lapwing.games.kuhn_poker import KuhnPoker, KuhnPokerState, KuhnPokerView
from lapwing.policies.baselines import Scripted
from lapwing.policies.opponents import exact_opponents
from lapwing.tabular.extensive import extensive_game
from lapwing.tabular.profile_values import expected_values

GAME = KuhnPoker(first=0)


def end_of(cards, *moves, first=0):
    """The last transition of a match."""
    state = KuhnPokerState(cards, (), first)
    for move in moves[:-1]:
        transition = GAME.step(state, {GAME.players(state)[0]: move}, generator("unused"))
        assert (transition.terminated, transition.reward) == (False, {0: 0.0, 1: 0.0})
        state = transition.state
    return GAME.step(state, {GAME.players(state)[0]: moves[-1]}, generator("unused"))


@pytest.mark.parametrize(
    ("cards", "moves", "won"),
    [
        (("K", "Q"), ("pass", "pass"), 1.0),
        (("J", "Q"), ("pass", "pass"), -1.0),
        (("J", "K"), ("bet", "pass"), 1.0),
        (("K", "J"), ("pass", "bet", "pass"), -1.0),
        (("Q", "J"), ("bet", "bet"), 2.0),
        (("Q", "K"), ("pass", "bet", "bet"), -2.0),
    ],
)
def test_the_five_ways_to_end(cards, moves, won):
    transition = end_of(cards, *moves)
    assert transition.terminated
    assert transition.reward == {0: won, 1: -won}
    assert transition.success is None
    # The same from the other side of the table.
    assert end_of(cards[::-1], *moves, first=1).reward == {1: won, 0: -won}


def test_each_seat_sees_its_own_card_alone():
    state = KuhnPokerState(("J", "K"), ("pass",), 0)
    assert GAME.view(state, 0) == KuhnPokerView("J", ("pass",))
    assert GAME.view(state, 1) == KuhnPokerView("K", ("pass",))
    assert GAME.view(KuhnPokerState(("J", "Q"), ("pass",), 0), 0) == GAME.view(state, 0)


def test_the_turn_goes_round_from_whoever_began():
    assert GAME.players(KuhnPokerState(("J", "K"), (), 1)) == (1,)
    assert GAME.players(KuhnPokerState(("J", "K"), ("pass",), 1)) == (0,)
    assert GAME.players(KuhnPokerState(("J", "K"), ("pass", "bet"), 1)) == (1,)


def test_the_deals_are_all_alike():
    assert [p for p, _ in KuhnPoker().initial_outcomes()] == [1 / 12] * 12
    dealt = [GAME.initial(generator("deal", n)).cards for n in range(1200)]
    counts = [dealt.count(state.cards) for _, state in GAME.initial_outcomes()]
    assert sum(counts) == 1200
    assert max(abs(count - 200) for count in counts) < 5 * np.sqrt(1200 * 5 / 36)


def test_the_scripted_opponent_plays_an_equilibrium():
    # Against α = 1/3 the first seat can get −1/18 and no more, which every sensible policy does; here bet with K only.
    for first, value in ((0, -1 / 18), (1, 1 / 18)):
        game = extensive_game(KuhnPoker(first=first), opponents=exact_opponents({1: Scripted()}))
        honest = np.array([float((view.card == "K") == (action == "bet")) for view, action in choices(game)])
        assert expected_values(game, honest)[0] == pytest.approx(value, abs=1e-12)


def choices(game):
    return [(game.views[v], action) for v in range(game.num_sets) for action in game.legal[v]]


@pytest.mark.parametrize("first", [0, 1, None])
def test_the_ceiling_holds_for_everybody_who_never_looks(first):
    # Always betting against a coin: begin, and half give way, 1; half call, ±2. Second, after a pass the same; after a
    # bet it calls, ±2: ½ and ¼.
    game = extensive_game(KuhnPoker(first=first))
    found = []
    for bet in np.linspace(0.0, 1.0, 11):
        seat = game.seat[game.set_of_choice]
        is_bet = np.array([action == "bet" for _, action in choices(game)])
        profile = np.where(seat == 1, 0.5, np.where(is_bet, bet, 1.0 - bet))
        found.append(expected_values(game, profile)[0])
    assert max(found) == pytest.approx(KuhnPoker(first=first).null_ceiling)


def test_the_heuristic_bets_and_calls_with_the_king_alone():
    assert GAME.heuristic(KuhnPokerState(("K", "J"), ("pass", "bet"), 0), 0) == "bet"
    assert GAME.heuristic(KuhnPokerState(("Q", "J"), (), 0), 0) == "pass"


def test_other_settings_keep_the_contract():
    for first in (0, 1):
        check_game(KuhnPoker(first=first), other_process=False)
    with pytest.raises(UserError, match="not 2"):
        KuhnPoker(first=2)
