"""What games say of themselves: the best that is known, and what those get who never look."""

import numpy as np
import pytest

from lapwing.core import registry
from lapwing.core.rng import generator
from lapwing.core.types import Match
from lapwing.evaluation.evaluate import evaluation_matches
from lapwing.evaluation.null_agents import null_returns
from lapwing.evaluation.references import references
from lapwing.games.bandit import Bandit
from lapwing.games.chain import Chain
from lapwing.games.expert_advice import ExpertAdvice
from lapwing.games.frozen_lake import FrozenLake
from lapwing.games.game import initial_state
from lapwing.games.mixture import Mixture
from lapwing.games.search_qa import SearchQa
from lapwing.games.snake import Snake
from lapwing.games.tic_tac_toe import TicTacToe
from lapwing.policies.baselines import Heuristic, Random, Scripted
from lapwing.rollout.play import play
from lapwing.tabular.enumerate import enumerate_game
from lapwing.tabular.policy_evaluation import policy_values, uniform_policy
from lapwing.tabular.value_iteration import optimal_values

# One with a bound of its own for each branch of a `null_ceiling`.
SETTINGS = [
    ("bandit", {"arms": (0.9, 0.1, 0.1)}),
    ("chain", {"slip": 0.25, "length": 5}),
    ("expert_advice", {"process": "leader_set", "means": (0.1, 0.2, 0.3)}),
    ("frozen_lake", {"map_name": "4x4", "slippery": True}),
    ("frozen_lake", {"size": 2, "slippery": True}),
    ("frozen_lake", {"frozen_probability": 1.0}),
    ("key_door", {"size": 3, "step_reward": -0.01}),
    ("search_qa", {"entities": 60, "rewards": "v2"}),
    ("snake", {"width": 10, "height": 10, "apples": 10}),
    ("snake", {"num_snakes": 2}),
    ("snake", {"apple_reward": 2.0}),
    ("tic_tac_toe", {"first": 0}),
    ("tic_tac_toe", {"first": 1}),
]


@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=[f"{name} {given}" for name, given in SETTINGS])
def test_who_never_looks_stays_below_the_ceiling_whatever_the_settings(name, settings):
    game = registry.resolve("games", name)(**settings)
    for found in null_returns(game, range(100)):
        assert not found.exceeds(game.null_ceiling), (found.agent, found.mean)


def test_a_game_that_pays_for_nothing_exceeds_its_ceiling_at_the_seed_that_is_named():
    game = Bandit(arms=(0.9, 0.1))
    by_agent = {found.agent: found for found in null_returns(game, range(60))}
    assert by_agent["no_op"].exceeds(0.5)
    assert not by_agent["no_op"].exceeds(0.9)
    seed = by_agent["no_op"].first_above(0.5)
    (again,) = [found for found in null_returns(game, [seed]) if found.agent == "no_op"]
    assert again.returns.tolist() == [1.0]
    assert all(one == 0.0 for one in by_agent["no_op"].returns[:seed])


def test_ceilings_by_hand():
    assert Bandit(arms=(0.1, 0.9)).null_ceiling == 0.5
    assert Bandit(arms=(0.9, 0.1)).null_ceiling == 0.9
    # left, right, left, right: the last of four decisions led from cell 0 to cell 1 of 4.
    assert Chain(length=4).null_ceiling == 0.25
    # 8 rounds: 3.2 losses of a blind choice, at most 1.6 of the better expert.
    assert ExpertAdvice().null_ceiling == pytest.approx(-1.6)
    # Three experts share 8 losses: the best has 2, a blind choice 8/3.
    assert ExpertAdvice(process="leader_set", means=(0.1, 0.2, 0.3)).null_ceiling == pytest.approx(2 - 8 / 3)
    assert Mixture().null_ceiling == pytest.approx((Chain(length=4).null_ceiling + 0.5) / 2)


def test_random_play_of_the_chain_is_below_the_ceiling_exactly():
    for slip in (0.0, 0.1, 0.5):
        game = Chain(length=6, slip=slip)
        table = enumerate_game(game)
        assert table.start @ policy_values(table, uniform_policy(table), 6)[6] <= game.null_ceiling


# ---- the best that is known -------------------------------------------------------------------------------------


def around(width, height):
    """A cycle through all cells of a board of even height, as the action in each cell: along the left side and back."""
    actions = {}
    for y in range(height):
        for x in range(1, width):
            there = "right" if y % 2 == 0 else "left"
            actions[x, y] = there if 1 <= x + (1 if there == "right" else -1) < width else "up"
        actions[0, y] = "down"
    actions[1, height - 1] = "left"
    actions[0, 0] = "right"
    return actions


@pytest.mark.parametrize(("width", "height"), [(2, 2), (3, 4), (4, 6)])
def test_a_snake_on_a_cycle_eats_all_that_the_best_known_says(width, height):
    game = Snake(width=width, height=height)
    actions = around(width, height)
    for seed in range(5):
        state, total, is_over = game.initial(generator("cycle", seed)), 0.0, False
        rng = generator("cycle chance", seed)
        while not is_over:
            transition = game.step(state, {0: actions[state.bodies[0][0]]}, rng)
            state, is_over = transition.state, transition.terminated
            total += transition.reward[0]
        assert total == game.best_known.score == width * height - 1


def test_what_is_not_known_is_not_said():
    assert Snake(width=3, height=3).best_known is None
    assert Snake(num_snakes=2).best_known is None
    assert Snake(apples=24).null_ceiling is None
    assert SearchQa(entities=60, hops=2).best_known is None
    assert SearchQa(entities=60, rewards="v2").best_known is None


@pytest.mark.parametrize("settings", [{}, {"max_turns": 0}, {"exact_query_weight": 0.5}])
def test_the_heuristic_of_search_gets_the_best_known(settings):
    game = SearchQa(entities=60, **settings)
    episodes = play([Match(game, seed, "test", 0, 0, 0, 10) for seed in range(20)], {0: Heuristic()})
    assert [episode.domain_return for episode in episodes] == pytest.approx([game.best_known.score] * 20)


# ---- references -------------------------------------------------------------------------------------------------


def test_the_optimum_of_a_game_of_one_player_is_solved():
    found = references(Chain(length=4, slip=0.25), max_steps=4)
    assert found["optimal"]["return"] == pytest.approx(Chain(length=4, slip=0.25).optimal_value())
    assert "states" in found["optimal"]["source"]
    assert found["null_ceiling"]["return"] == Chain(length=4, slip=0.25).null_ceiling
    assert "best_known" not in found


def test_the_step_cap_counts():
    # The shortest way across the fixed lake has six steps.
    assert references(FrozenLake(map_name="4x4"), max_steps=5)["optimal"]["return"] == 0.0
    assert references(FrozenLake(map_name="4x4"), max_steps=6)["optimal"]["return"] == 1.0


def test_with_two_players_the_optimum_is_that_against_the_opponents():
    against = {
        name: references(TicTacToe(), opponents={1: policy}, max_steps=9)["optimal"]["return"]
        for name, policy in (("random", Random()), ("scripted", Scripted()), ("heuristic", Heuristic()))
    }
    assert against["heuristic"] < against["scripted"] < against["random"] < 1.0
    assert "optimal" not in references(TicTacToe(), max_steps=9)


def test_what_cannot_be_solved_has_no_optimum():
    found = references(Snake(), max_steps=100)
    assert set(found) == {"best_known", "null_ceiling"}
    assert found["best_known"]["return"] == Snake().best_known.score


def test_where_starts_are_drawn_the_first_of_the_evaluation_are_solved_one_by_one():
    found = references(FrozenLake(slippery=True), seed=5, max_steps=20)["optimal"]
    assert found["source"] == "solved, mean of the first 40 starts, at most 20 steps"
    matches = evaluation_matches(FrozenLake(slippery=True), split="test", seed=5, episodes=40, max_steps=20)
    values = []
    for match in matches:
        table = enumerate_game(match.game, [initial_state(match)])
        values.append(optimal_values(table, 20)[20, 0])
    assert found["return"] == pytest.approx(np.mean(values))
    assert 0.0 < found["return"] < 1.0


def test_who_knew_hidden_chances_is_nobody_to_compare_with():
    class Hiding(Chain):
        oracles = ("greedy",)

    assert "optimal" in references(Chain())
    assert "optimal" not in references(Hiding())


def test_nobody_gets_more_than_the_optimum():
    game = TicTacToe()
    best = references(game, opponents={1: Random()}, max_steps=9)["optimal"]["return"]
    episodes = play([Match(game, seed, "test", 0, 0, 0, 9) for seed in range(200)], {0: Heuristic(), 1: Random()})
    returns = np.array([episode.domain_return for episode in episodes])
    assert returns.mean() <= best + 4 * returns.std() / len(returns) ** 0.5
