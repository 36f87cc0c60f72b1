import string

import numpy as np
import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.games.bandit import Bandit, BanditState, BanditView

START = BanditState(pulled=False)


def test_one_pull_ends_the_game():
    game = Bandit(arms=(0.0, 1.0))
    state = game.initial(generator("bandit"))
    assert state == START
    assert game.players(state) == (0,)
    for action, pays in (("a", False), ("b", True)):
        transition = game.step(state, {0: action}, generator("bandit"))
        assert transition.terminated
        assert transition.reward == {0: float(pays)}
        assert transition.success == {0: pays}
        assert transition.state == BanditState(pulled=True)


def test_the_view_names_the_arms_and_hides_what_they_pay():
    game = Bandit(arms=(0.2, 0.3, 0.4))
    assert game.view(START, 0) == BanditView(arms=("a", "b", "c"), pulled=False)
    assert game.legal(START, 0) == ("a", "b", "c")
    assert game.words() == ["a", "b", "c"]


def test_outcomes_by_hand():
    (pays, paid), (fails, failed) = Bandit(arms=(0.25, 1.0)).outcomes(START, {0: "a"})
    assert (pays, paid.reward, paid.success) == (0.25, {0: 1.0}, {0: True})
    assert (fails, failed.reward, failed.success) == (0.75, {0: 0.0}, {0: False})


def test_what_cannot_happen_is_no_outcome():
    game = Bandit(arms=(0.0, 1.0))
    assert [p for p, _ in game.outcomes(START, {0: "a"})] == [1.0]
    assert [t.reward[0] for _, t in game.outcomes(START, {0: "b"})] == [1.0]


def test_an_arm_pays_as_often_as_it_says():
    game, draws = Bandit(arms=(0.1, 0.9)), 4000
    rng = generator("how often")
    paid = np.mean([game.step(START, {0: "b"}, rng).reward[0] for _ in range(draws)])
    assert abs(paid - 0.9) < 4 * np.sqrt(0.09 / draws)


def test_the_heuristic_pulls_the_best_arm_and_the_first_of_several():
    assert Bandit(arms=(0.1, 0.9)).heuristic(START, 0) == "b"
    assert Bandit(arms=(0.9, 0.1, 0.9)).heuristic(START, 0) == "a"


def test_arms_may_come_as_a_list_of_any_numbers():
    game = Bandit(arms=[0, 1])  # pyright: ignore[reportArgumentType]
    assert game == Bandit(arms=(0.0, 1.0))
    assert hash(game) == hash(Bandit(arms=(0.0, 1.0)))


def test_the_most_arms_use_the_whole_alphabet():
    assert Bandit(arms=(0.5,) * 26).legal(START, 0) == tuple(string.ascii_lowercase)


@pytest.mark.parametrize(("arms", "found"), [((), "not 0"), ((0.5,) * 27, "not 27"), ((0.5, 1.5), r"not 1\.5")])
def test_impossible_arms_are_refused(arms, found):
    with pytest.raises(UserError, match=found):
        Bandit(arms=arms)
