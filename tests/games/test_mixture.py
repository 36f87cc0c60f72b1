import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.games.chain import Chain, ChainView
from lapwing.games.contract import check_game
from lapwing.games.frozen_lake import FrozenLakeView
from lapwing.games.mixture import Mixture

LAKE_AND_CHAIN = ({"name": "frozen_lake", "map_name": "4x4", "weight": 3.0}, {"name": "chain", "length": 3})


def test_each_match_is_one_of_the_games_as_often_as_its_weight_says():
    game = Mixture(games=LAKE_AND_CHAIN)
    views = [type(game.view(game.initial(generator("mixture", n)), 0)) for n in range(2000)]
    share = views.count(FrozenLakeView) / len(views)
    assert set(views) == {FrozenLakeView, ChainView}
    assert abs(share - 0.75) < 4 * (0.75 * 0.25 / len(views)) ** 0.5


def test_a_match_is_told_under_the_name_of_its_game():
    game = Mixture(games=LAKE_AND_CHAIN)
    state = game.initial_of_each(generator("mixture"))[1]
    parts = []
    for _ in range(3):
        transition = game.step(state, {0: "right"}, generator("walk"))
        parts.append(transition.parts)
        state = transition.state
    assert transition.terminated
    assert transition.success == {0: True}
    # Fails when a match is counted at every step, or not at all where it is cut before its end.
    assert [part.get("chain.played", 0.0) for part in parts] == [1.0, 0.0, 0.0]
    assert [part.get("chain.won") for part in parts] == [None, None, 1.0]
    assert sum(part["chain.return"] for part in parts) == pytest.approx(1.0)
    assert not any(name.startswith("frozen_lake.") for part in parts for name in part)


def test_a_step_is_that_of_the_game():
    chain, game = (
        Chain(length=3, slip=0.3),
        Mixture(games=({"name": "bandit"}, {"name": "chain", "length": 3, "slip": 0.3})),
    )
    state = game.initial_of_each(generator("mixture"))[1]
    alone = chain.step(state.state, {0: "left"}, generator("step"))
    mixed = game.step(state, {0: "left"}, generator("step"))
    assert (mixed.state.state, mixed.reward, mixed.terminated) == (alone.state, alone.reward, alone.terminated)
    assert [(p, t.state.state) for p, t in game.outcomes(state, {0: "left"})] == [
        (p, t.state) for p, t in chain.outcomes(state.state, {0: "left"})
    ]


def test_what_every_game_has_the_mixture_has_and_nothing_else():
    assert hasattr(Mixture(games=LAKE_AND_CHAIN), "outcomes")
    assert not hasattr(Mixture(games=({"name": "snake", "num_snakes": 1}, {"name": "chain"})), "outcomes")
    assert sum(p for p, _ in Mixture().initial_outcomes()) == pytest.approx(1.0)


def test_it_keeps_the_contract_with_maps_of_a_split():
    game = Mixture(games=({"name": "frozen_lake"}, {"name": "chain", "length": 3})).for_split("test")
    assert game.members[0].split == "test"
    check_game(game, other_process=False)


def test_a_game_named_twice_has_two_names():
    assert Mixture(games=({"name": "chain"}, {"name": "chain", "length": 3})).labels == ("chain", "chain-2")


@pytest.mark.parametrize(
    ("games", "said"),
    [
        (({"name": "chain"},), "2 to 16 games"),
        (({"name": "chain", "weight": 0.0}, {"name": "bandit"}), "a number above 0; found 0.0"),
        (({"name": "chian"}, {"name": "bandit"}), "did you mean chain"),
        (({"weight": 1.0}, {"name": "bandit"}), "needs a name"),
        (({"name": "chain", "arms": 3}, {"name": "bandit"}), "does not take these settings"),
        (({"name": "tic_tac_toe"}, {"name": "bandit"}), "for one player"),
    ],
)
def test_impossible_mixtures_are_refused(games, said):
    with pytest.raises(UserError, match=said):
        Mixture(games=games)
