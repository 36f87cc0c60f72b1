"""Our games as environments of Gymnasium."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import lapwing
from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.games.adapters.gymnasium import from_gymnasium
from lapwing.games.adapters.reasoning_gym import ReasoningGym
from lapwing.games.adapters.textarena import Textarena
from lapwing.games.contract import check_game
from lapwing.games.frozen_lake import FrozenLake
from lapwing.games.search_qa import SearchQa
from lapwing.games.snake import Snake
from lapwing.games.tic_tac_toe import TicTacToe
from lapwing.policies.renderers import Grid

GAMES = {
    "frozen_lake": FrozenLake(),
    "slippery": FrozenLake(map_name="4x4", slippery=True),
    "snake": Snake(width=5, height=5),
    "two snakes": Snake(num_snakes=2),
    "tic_tac_toe": TicTacToe(),
    "kuhn_poker": "kuhn_poker",
    "key_door": "key_door",
    "search_qa": "search_qa",
    "blackjack": from_gymnasium("Blackjack-v1"),
}


@pytest.mark.parametrize("observation", ["text", "dict"])
@pytest.mark.parametrize("name", GAMES)
def test_gymnasiums_own_check_passes(name, observation):
    env = lapwing.to_gymnasium(GAMES[name], observation=observation, max_steps=50, render_mode="ansi")
    with warnings.catch_warnings():
        # That an environment made without gymnasium.make has no spec.
        warnings.filterwarnings("ignore", message=".*spec.*")
        check_env(env)


def played(env, seed, choose):
    shown, info = env.reset(seed=seed)
    found = [(shown, info["legal"])]
    total = 0.0
    while True:
        shown, reward, terminated, truncated, info = env.step(choose(info))
        found.append((shown, reward, terminated, truncated, info["legal"]))
        total += reward
        if terminated or truncated:
            return found, total, info


def first_legal(info):
    return int(np.flatnonzero(info["action_mask"])[0])


def test_the_seed_is_the_match():
    env = lapwing.to_gymnasium(FrozenLake(slippery=True), max_steps=20)
    assert played(env, 3, first_legal)[0] == played(env, 3, first_legal)[0]
    assert played(env, 3, first_legal)[0] == played(lapwing.to_gymnasium(env.game, max_steps=20), 3, first_legal)[0]
    assert len({played(env, seed, first_legal)[0][0] for seed in range(8)}) > 1


def test_a_walk_over_the_lake():
    env = lapwing.to_gymnasium(FrozenLake(map_name="4x4"), renderer=Grid(), render_mode="ansi")
    assert env.actions == ("left", "down", "right", "up")
    shown, info = env.reset(seed=0)
    assert shown == "dry lake : P F F F / F H F H / F F F H / H F F G"
    assert env.render() == "dry lake\n  P F F F\n  F H F H\n  F F F H\n  H F F G"
    for action in (1, 1, 2, 1, 2):
        shown, reward, terminated, truncated, info = env.step(action)
        assert (reward, terminated, truncated) == (0.0, False, False)
        assert "success" not in info
    shown, reward, terminated, truncated, info = env.step(2)
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
    assert info["legal"] == ()
    with pytest.raises(UserError, match="call reset"):
        env.step(2)


def test_a_cap_truncates():
    env = lapwing.to_gymnasium("frozen_lake", max_steps=3)
    found, _, info = played(env, 0, lambda info: 0)
    assert len(found) == 1 + 3
    assert found[-1][2:4] == (False, True)
    assert info["success"] is False


@pytest.mark.parametrize("seat", [0, 1])
def test_opponents_move_until_the_seat_decides_again(seat):
    env = lapwing.to_gymnasium(TicTacToe(first=0), seat=seat, opponents="heuristic", renderer=Grid())
    for seed in range(5):
        shown, _ = env.reset(seed=seed)
        assert shown.split().count("E") == seat
        _, total, last = played(env, seed, first_legal)
        assert last["success"] == (total == 1.0)
    # The first free cell against somebody who looks: the reward of a move of theirs is told with ours.
    assert {played(env, seed, first_legal)[1] for seed in range(5)} <= {-1.0, 0.0, 1.0}
    lost = lapwing.to_gymnasium(TicTacToe(first=1), opponents={1: "heuristic"})
    assert played(lost, 0, first_legal)[1] == -1.0


def test_all_who_decide_at_once_are_asked():
    env = lapwing.to_gymnasium(Snake(num_snakes=2), opponents="heuristic", max_steps=30)
    found, total, _ = played(env, 1, first_legal)
    assert 1 < len(found) <= 31
    assert total == sum(entry[1] for entry in found[1:])


def test_an_illegal_action_stands_for_the_first_legal_one():
    env = lapwing.to_gymnasium(TicTacToe(first=0), renderer=Grid())
    env.reset(seed=0)
    _, _, _, _, info = env.step(4)
    assert "illegal" not in info
    assert info["action_mask"][4] == 0
    after, _, _, _, info = env.step(4)
    assert info["illegal"] is True
    assert after.split().count("P") == 2
    with pytest.raises(UserError, match="from 0 to 8"):
        env.step(9)


def test_a_game_with_tools_takes_texts_and_its_answer_is_judged():
    env = lapwing.to_gymnasium(SearchQa())
    env.reset(seed=0)
    *_, info = env.step("nothing that is a call")
    assert info == {"illegal": True}
    _, _, terminated, _, info = env.step("<answer> wrong </answer>")
    assert (terminated, info["success"]) == (True, False)
    env.reset(seed=0)
    right = env.game.right_answer(env._state.task)
    _, reward, terminated, _, info = env.step(f"<answer> {right} </answer>")
    assert (terminated, info["success"]) == (True, True)
    assert reward > 0.0


def test_a_game_goes_out_and_comes_back():
    lake = FrozenLake(map_name="4x4", slippery=True)
    game = from_gymnasium(lambda: lapwing.to_gymnasium(lake, renderer=Grid()), describe=str, success="info")
    assert game.restorable
    check_game(game, matches=2, max_steps=10, other_process=False)
    state = game.initial(generator("back"))
    assert game.view(state, 0).text == "slippery lake : P F F F / F H F H / F F F H / H F F G"
    # All chance of a step is that of the match that the lake is played in now.
    after = {game.step(state, {0: "1"}, generator("slip", number)).state.scene for number in range(20)}
    assert len(after) == 3
    dry = from_gymnasium(lambda: lapwing.to_gymnasium(FrozenLake(map_name="4x4")), describe=str, success="info")
    state = dry.initial(generator("back"))
    for action in "112122":
        transition = dry.step(state, {0: action}, generator("dry"))
        state = transition.state
    assert (transition.reward, transition.terminated, transition.success) == ({0: 1.0}, True, {0: True})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"seat": 1}, "seats 0 to 0"),
        ({"observation": "texts"}, "did you mean text"),
        ({"render_mode": "human"}, "render_mode is 'ansi' or None"),
        ({"max_steps": 0}, "at least 1"),
        ({"opponents": {3: "random"}}, None),
    ],
)
def test_what_does_not_fit_is_said(arguments, said):
    if said is None:
        with pytest.raises(UserError, match="no seat 3"):
            lapwing.to_gymnasium("tic_tac_toe", **arguments)
        with pytest.raises(UserError, match="did you mean heuristic"):
            lapwing.to_gymnasium("tic_tac_toe", opponents="heuristics")
        return
    with pytest.raises(UserError, match=said):
        lapwing.to_gymnasium("frozen_lake", **arguments)


def test_it_is_an_environment():
    assert isinstance(lapwing.to_gymnasium("frozen_lake"), gymnasium.Env)


TALKING = {
    "reasoning_gym": ReasoningGym("leg_counting", size=40),
    "textarena": Textarena(),
    "two who talk": Textarena("TicTacToe-v0", 2),
}


@pytest.mark.parametrize("name", TALKING)
def test_games_that_take_any_text_are_environments_too(name):
    env = lapwing.to_gymnasium(TALKING[name], max_steps=6)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*spec.*")
        check_env(env)
    assert isinstance(env.action_space, gymnasium.spaces.Text)
    assert len(env.reset(seed=0)[0]) > 20


def test_a_text_is_the_action_and_a_list_of_texts_makes_a_choice_of_it():
    game = TALKING["reasoning_gym"]
    env = lapwing.to_gymnasium(game)
    env.reset(seed=3)
    answer = game.right_answer(env._state.number)
    assert env.step(answer)[1:3] == (1.0, True)
    choice = lapwing.to_gymnasium(game, actions=["no number", answer], observation="dict")
    assert choice.action_space == gymnasium.spaces.Discrete(2)
    shown, info = choice.reset(seed=3)
    assert shown["action_mask"].tolist() == [1, 1]
    assert info["legal"] == ("no number", answer)
    assert choice.step(0)[1:3] == (0.0, True)
    choice.reset(seed=3)
    assert choice.step(1)[1:3] == (1.0, True)


@pytest.mark.parametrize("name", ["frozen_lake", "tic_tac_toe", "kuhn_poker"])
def test_many_are_played_at_once_as_gymnasium_plays_them(name):
    """A loop as trainers have it: vectors with their own resets, in which illegal actions are masked."""

    def make():
        return lapwing.to_gymnasium(name, max_steps=12, observation="dict")

    envs = gymnasium.vector.SyncVectorEnv([make] * 3)
    alone = [make() for _ in range(3)]
    shown, _ = envs.reset(seed=5)
    for number, env in enumerate(alone):
        assert env.reset(seed=5 + number)[0]["text"] == shown["text"][number]
    ended = 0
    for _ in range(30):
        actions = shown["action_mask"].argmax(axis=1)  # the first legal one; 0 where a match has just ended
        before_ended = [env._is_over for env in alone]
        shown, paid, terminated, truncated, _ = envs.step(actions)
        for number, env in enumerate(alone):
            if before_ended[number]:
                found, reward, over, cut = env.reset()[0], 0.0, False, False
            else:
                found, reward, over, cut, _ = env.step(actions[number])
            assert (found["text"], reward) == (shown["text"][number], paid[number])
            assert (over, cut) == (terminated[number], truncated[number])
            np.testing.assert_array_equal(found["action_mask"], shown["action_mask"][number])
            ended += over or cut
    assert ended > 3


@pytest.mark.parametrize("name", ["key_door", "bandit_suite", "slippery", "blackjack"])
def test_out_and_back_pays_the_same_for_the_same_actions(name):
    """A game, its environment, and the game of that: equal numbers of actions and equal seeds, equal returns."""
    made = GAMES.get(name, name)
    env = lapwing.to_gymnasium(made, max_steps=15)
    back = from_gymnasium(lambda: lapwing.to_gymnasium(made, max_steps=15), describe=str, success="none")
    for number in range(5):
        state = back.initial(generator("back", number))
        shown, _ = env.reset(seed=state.seed)
        assert back.view(state, 0).text == shown
        for step in range(15):
            action = int(generator("choice", number, step).integers(len(env.actions)))
            transition = back.step(state, {0: str(action)}, generator("chance", number, step))
            chance = transition.state.moves[-1][1]
            env.unwrapped.np_random = np.random.Generator(np.random.PCG64(chance))
            shown, reward, terminated, truncated, _ = env.step(action)
            assert transition.reward == {0: reward}
            assert transition.terminated == (terminated or truncated)
            assert transition.parts == ({"cut": 1.0} if truncated else {})
            state = transition.state
            assert back.view(state, 0).text == shown
            if transition.terminated:
                break
