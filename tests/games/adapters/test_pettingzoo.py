"""PettingZoo's environments as games, and games as its environments; against the real package."""

import warnings

import numpy as np
import pettingzoo
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from pettingzoo.classic.connect_four import connect_four as connect_four_v3
from pettingzoo.classic.rps import rps as rps_v2
from pettingzoo.classic.tictactoe import tictactoe as tictactoe_v3

import lapwing
from lapwing.core.errors import GameError, UserError
from lapwing.core.rng import generator
from lapwing.core.types import Match, Transition
from lapwing.evaluation.null_agents import null_returns
from lapwing.games.adapters.pettingzoo import Pettingzoo, from_pettingzoo, to_pettingzoo
from lapwing.games.connect_four import ConnectFour
from lapwing.games.contract import check_game
from lapwing.games.frozen_lake import FrozenLake
from lapwing.games.matrix_game import MatrixGame
from lapwing.games.rotated import Rotated
from lapwing.games.tic_tac_toe import TicTacToe
from lapwing.policies.baselines import Random
from lapwing.rollout.play import play

with warnings.catch_warnings():
    # It imports an environment by its old name.
    warnings.simplefilter("ignore", DeprecationWarning)
    from pettingzoo.test import api_test, parallel_api_test


def random_actions(game, state, rng):
    drawn = {player: game.legal(state, player) for player in game.players(state)}
    return {player: legal[int(rng.integers(len(legal)))] for player, legal in drawn.items()}


def positions(game):
    """All states by their views and their mover, and the values of those where the match has ended."""
    [(_, start)] = game.initial_outcomes()
    seen, ended, waiting = {start}, {}, [start]
    while waiting:
        state = waiting.pop()
        for action in game.legal(state, game.players(state)[0]):
            [(_, transition)] = game.outcomes(state, {game.players(state)[0]: action})
            after = transition.state
            if transition.terminated:
                ended[after] = (dict(transition.reward), dict(transition.success))
            elif after not in seen:
                waiting.append(after)
            seen.add(after)
    return seen, ended


# ---------------------------------------------------------------------------------------------------------------------
# Environments as games.


@pytest.mark.parametrize("game", [Pettingzoo("rps_v2"), Pettingzoo("rps_v2", api="aec"), Pettingzoo("connect_four_v3")])
def test_a_classic_environment_keeps_the_contract(game):
    check_game(game, matches=3, other_process=False)


def test_tic_tac_toe_has_its_5478_positions_and_each_pays_what_ours_pays():
    game, ours = Pettingzoo(), TicTacToe(first=0)
    seen, ended = positions(game)
    own_seen, own_ended = positions(ours)
    assert len(seen) == len(own_seen) == 5478

    def shown(g, state):
        return g.view(state, 0), g.view(state, 1)

    assert {shown(game, state) for state in seen} == {shown(ours, state) for state in own_seen}
    own = {shown(ours, state): paid for state, paid in own_ended.items()}
    assert {shown(game, state): paid for state, paid in ended.items()} == own


OURS = {"tictactoe_v3": TicTacToe(first=0), "connect_four_v3": ConnectFour(first=0), "rps_v2": MatrixGame(rounds=15)}


@pytest.mark.parametrize("name", OURS)
def test_who_never_looks_is_paid_what_our_game_pays_in_the_first_seat_and_in_any(name):
    name_in_recipes = type(OURS[name]).__module__.rpartition(".")[2]
    for game, ours in (
        (Pettingzoo(name), OURS[name]),
        (Rotated(game={"name": "pettingzoo", "env": name}), Rotated(game={"name": name_in_recipes})),
    ):
        assert game.null_ceiling == ours.null_ceiling
        assert not any(found.exceeds(game.null_ceiling) for found in null_returns(game, range(60)))


def test_a_cell_is_where_its_name_says():
    game = Pettingzoo()
    # PettingZoo counts down the columns: 2 is the lowest cell of the first one, 3 the highest of the second.
    for name, column, row in (("a1", 0, 2), ("b3", 1, 0), ("c2", 2, 1)):
        seen = game.step(game.initial(generator(0)), {0: name}, generator(0)).state.scene.seen
        assert seen[0][column][row] == (1, 0)
        assert seen[1][column][row] == (0, 1)


def test_connect_four_shows_and_pays_what_ours_does():
    game, ours = Pettingzoo("connect_four_v3"), ConnectFour(first=0)
    for number in range(10):
        rng = generator("four", number)
        state, own, terminated = game.initial(rng), ours.initial(rng), False
        while not terminated:
            actions = random_actions(game, state, rng)
            assert list(game.legal(state, *actions)) == list(ours.legal(own, *actions))
            found, expected = game.step(state, actions, rng), ours.step(own, actions, rng)
            assert (dict(found.reward), found.terminated) == (dict(expected.reward), expected.terminated)
            assert found.success == expected.success
            state, own, terminated = found.state, expected.state, found.terminated
            assert [game.view(state, seat) for seat in (0, 1)] == [ours.view(own, seat) for seat in (0, 1)]


def test_two_ways_to_a_position_are_one_state_only_if_it_is_fully_observed():
    ways = [("a1", "b2", "c3", "a3"), ("c3", "b2", "a1", "a3")]

    def reached(game, way):
        state = game.initial(generator(0))
        for action in way:
            state = game.step(state, {game.players(state)[0]: action}, generator(1)).state
        return state

    first, second = (reached(Pettingzoo(), way) for way in ways)
    assert first == second
    first, second = (reached(Pettingzoo(fully_observed=False), way) for way in ways)
    assert first != second
    assert first.scene == second.scene


def test_a_state_is_stepped_again_from_the_middle_and_the_environment_is_not_disturbed():
    game = Pettingzoo("connect_four_v3")
    rng = generator("middle")
    state = game.initial(rng)
    for _ in range(6):
        state = game.step(state, random_actions(game, state, rng), rng).state
    [mover] = game.players(state)
    after = {action: game.step(state, {mover: action}, rng).state for action in game.legal(state, mover)}
    assert len(set(after.values())) == 7
    for action, found in after.items():
        assert game.step(state, {mover: action}, rng).state == found
    assert game.view(after["d"], mover).cells.count("P") == 4
    assert game.view(after["d"], mover).cells.count("E") == 3


def test_going_forward_costs_one_step_of_the_environment_a_step():
    made = []

    class Counted(tictactoe_v3.raw_env):
        steps = 0

        def __init__(self):
            super().__init__()
            made.append(self)

        def step(self, action):
            self.steps += 1
            super().step(action)

    game = from_pettingzoo(Counted, chance="none")
    state = game.initial(generator(0))
    before = len(made)
    for number, action in enumerate(["a3", "b2", "c1", "a2", "a1", "c3"]):
        assert game.legal(state, number % 2)[0] is not None
        state = game.step(state, {number % 2: action}, generator(0)).state
    assert len(made) == before
    assert sum(env.steps for env in made) <= 6 + sum(env.steps for env in made[:-1])
    assert max(env.steps for env in made) == 6


def test_random_play_wins_and_loses_as_often_as_it_must():
    """Of 255,168 games with moves drawn at random, the first player wins 58.49 % and the second 28.81 %."""
    matches = [Match(Pettingzoo(), 0, "test", 0, group, 0, 9) for group in range(500)]
    episodes = play(matches, {0: Random(), 1: Random()}, learners=(0, 1))
    won = [np.mean([e.success for e in episodes if e.player == seat]) for seat in (0, 1)]
    assert won[0] == pytest.approx(0.585, abs=0.06)
    assert won[1] == pytest.approx(0.288, abs=0.06)
    assert all(e.terminated for e in episodes)
    for own, other in zip(episodes[::2], episodes[1::2], strict=True):
        assert own.episode_return == -other.episode_return


@pytest.mark.parametrize(
    ("ours", "theirs", "paid"),
    [("rock", "scissors", 1.0), ("paper", "rock", 1.0), ("scissors", "rock", -1.0), ("rock", "rock", 0.0)],
)
@pytest.mark.parametrize("api", ["parallel", "aec"])
def test_hands_are_shown_at_once_and_pay_what_they_pay(api, ours, theirs, paid):
    game = Pettingzoo("rps_v2", api=api, settings={"max_cycles": 2})
    state = game.initial(generator(0))
    total = np.zeros(2)
    for _ in range(2):
        waiting = {0: ours, 1: theirs}
        while waiting:
            asked = {seat: waiting.pop(seat) for seat in game.players(state)}
            assert api == "aec" or len(asked) == 2
            transition = game.step(state, asked, generator(0))
            total += [transition.reward[0], transition.reward[1]]
            state = transition.state
        assert game.view(state, 0).text == f"enemy : {theirs}"
    assert total.tolist() == [2 * paid, -2 * paid]
    assert transition.terminated
    assert transition.success == {0: paid > 0, 1: paid < 0}


class Leaving(pettingzoo.ParallelEnv):
    """Three agents draw numbers; who draws a 0 leaves, and the last one is paid."""

    metadata = {"name": "leaving_v0"}  # noqa: RUF012

    def __init__(self, mask_in="observation"):
        self.possible_agents = ["a", "b", "c"]
        self.mask_in = mask_in
        self.space = Dict({"observation": Box(0, 9, (1,), np.int64), "action_mask": Box(0, 1, (2,), np.int8)})

    def observation_space(self, agent):
        return self.space

    def action_space(self, agent):
        return Discrete(2)

    def _seen(self):
        mask = np.array([1, int(self.round > 0)], dtype=np.int8)
        observation = {"observation": np.array([self.number]), "action_mask": mask}
        own = observation if self.mask_in == "observation" else observation["observation"]
        return {agent: own for agent in self.agents}, {agent: {"action_mask": mask} for agent in self.agents}

    def reset(self, seed=None, options=None):
        self.np_random = np.random.default_rng(seed)
        self.agents, self.round, self.number = list(self.possible_agents), 0, 9
        return self._seen()

    def step(self, actions):
        self.round += 1
        self.number = int(self.np_random.integers(3))
        before, gone = list(self.agents), []
        if self.number == 0 or self.round > 20:
            gone = [self.agents[0]]
        paid = {agent: float(len(before) == 1) - 0.5 * (agent in gone) for agent in before}
        observations, infos = self._seen()
        self.agents = [agent for agent in before if agent not in gone]
        over = {agent: agent in gone for agent in before}
        return observations, paid, over, dict.fromkeys(before, False), infos


@pytest.mark.parametrize("mask_in", ["observation", "infos"])
def test_agents_that_end_first_are_not_asked_again(mask_in):
    game = from_pettingzoo(lambda: Leaving(mask_in), actions=("stay", "wave"), rewards=(-1, 1))
    check_game(game, matches=5, other_process=False)
    rng = generator(3)
    state = game.initial(rng)
    assert game.players(state) == (0, 1, 2)
    assert [game.legal(state, seat) for seat in range(3)] == [("stay",)] * 3
    order, total, terminated = [(0, 1, 2)], np.zeros(3), False
    while not terminated:
        transition = game.step(state, random_actions(game, state, rng), rng)
        state, terminated = transition.state, transition.terminated
        total += [transition.reward[seat] for seat in range(3)]
        if game.players(state) != order[-1]:
            order.append(game.players(state))
        elif not terminated:
            assert game.legal(state, 2) == ("stay", "wave")
    assert order == [(0, 1, 2), (1, 2), (2,), ()]
    assert total[:2].tolist() == [-0.5, -0.5]


def test_chance_comes_from_the_argument_and_nowhere_else():
    game = from_pettingzoo(Leaving)
    state = game.initial(generator(0))

    def after(key):
        return {game.step(state, dict.fromkeys(range(3), "0"), generator(key, n)).state.scene for n in range(30)}

    assert len(after("one")) == 3  # 0, 1 and 2 are drawn
    assert after("one") == after("one")
    assert not hasattr(game, "outcomes")
    fixed = from_pettingzoo(Leaving, chance="reset")
    state = fixed.initial(generator(0))
    scenes = {fixed.step(state, dict.fromkeys(range(3), "0"), generator(n)).state.scene for n in range(30)}
    assert len(scenes) == 1
    assert hasattr(fixed, "outcomes")
    assert not hasattr(fixed, "initial_outcomes")
    assert len({fixed.initial(generator(n)) for n in range(5)}) == 5


def test_observations_are_described_in_words_or_as_one_likes():
    game = from_pettingzoo(Leaving, describe=lambda seen, seat: f"seat {seat} sees {seen[0]}")
    state = game.initial(generator(0))
    assert [game.view(state, seat).text for seat in range(3)] == ["seat 0 sees 9", "seat 1 sees 9", "seat 2 sees 9"]
    assert from_pettingzoo(Leaving).view(state, 0).text == "9"
    assert from_pettingzoo(connect_four_v3, describe=lambda seen, seat: seen).num_players == 2


def test_an_environment_that_was_made_is_copied():
    env = rps_v2.parallel_env(max_cycles=3)
    game = lapwing.from_pettingzoo(env)
    state = game.initial(generator(0))
    for _ in range(3):
        transition = game.step(state, {0: "rock", 1: "paper"}, generator(0))
        state = transition.state
    assert transition.terminated
    assert transition.success == {0: False, 1: True}
    assert not getattr(env.aec_env.unwrapped, "num_moves", 0)


def test_words_are_those_of_the_views_and_the_actions():
    assert Pettingzoo("rps_v2").words() == {"rock", "paper", "scissors", "enemy", ":", "none"}
    assert Pettingzoo("connect_four_v3").words() == set("abcdefg")  # the renderer knows the rest


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"env": "tictaktoe_v3"}, "PettingZoo has no environment 'tictaktoe_v3'; did you mean tictactoe_v3"),
        ({"env": "pettingzoo.classic.ches_v6"}, "did you mean chess_v6"),
        ({"env": "os.path"}, "PettingZoo has no environment 'os.path'; such are connect_four_v3, rps_v2, tictactoe_v3"),
        ({"env": 7}, "7 is no environment of PettingZoo"),
        ({"env": "rps_v2", "settings": {"num_actions": 2}}, "'rps_v2' refuses its settings"),
        ({"env": "rps_v2", "settings": {"cycles": 2}}, "'rps_v2' refuses its settings"),
        ({"env": "rps_v2", "actions": ("stone", "paper")}, "game.actions names 2 actions; player_0 of rps_v2 has 3"),
        ({"api": "parallel"}, "has no parallel_env"),
        ({"env": lambda: 3}, "makes a int"),
    ],
)
def test_what_cannot_be_played_is_said(settings, sentence):
    with pytest.raises(UserError, match=sentence.replace("(", r"\(")):
        _ = Pettingzoo(**settings).num_players
    with pytest.raises(UserError, match=sentence.replace("(", r"\(")):
        lapwing.from_pettingzoo(settings.pop("env", "tictactoe_v3"), **settings)


def test_settings_that_do_not_exist_are_said():
    with pytest.raises(UserError, match=r"game\.chance is not 'never'"):
        Pettingzoo(chance="never")
    with pytest.raises(UserError, match=r"game\.rewards is the lowest"):
        Pettingzoo(rewards=(1, -1))


# ---------------------------------------------------------------------------------------------------------------------
# Games as environments.


class Hands:
    """Two seats show a number at once, three times; equal numbers pay 1 to both."""

    num_players = 2
    reward_range = (0.0, 1.0)
    restorable = True

    def initial(self, rng):
        return (3, int(rng.integers(10)))

    def players(self, state):
        return (0, 1)

    def view(self, state, player):
        return (state[0], player)

    def legal(self, state, player):
        return ("one", "two", "three")[: 2 + player]

    def step(self, state, actions, rng):
        paid = float(actions[0] == actions[1])
        return Transition((state[0] - 1, state[1]), {0: paid, 1: paid}, terminated=state[0] == 1)


def passes(test, env):
    with warnings.catch_warnings():
        # Observations with a mask are dictionaries, and names of PettingZoo's own environments are known to it.
        warnings.simplefilter("ignore")
        test(env, num_cycles=300)


@pytest.mark.parametrize("game", [TicTacToe(), FrozenLake(), Hands()])
def test_a_game_passes_the_test_of_environments_that_take_turns(game, capsys):
    passes(api_test, lapwing.to_pettingzoo(game, max_steps=30))
    assert "Passed API test" in capsys.readouterr().out


@pytest.mark.parametrize("game", [Hands(), FrozenLake()])
def test_a_game_passes_the_test_of_parallel_environments(game, capsys):
    passes(parallel_api_test, to_pettingzoo(game, parallel=True, max_steps=30))
    assert "Passed Parallel API test" in capsys.readouterr().out


def test_a_match_outside_is_the_match_inside():
    env = to_pettingzoo(TicTacToe(first=0))
    env.reset(seed=5)
    names = env.unwrapped.action_names
    for cell in ("a1", "b1", "a2", "b2", "a3"):
        observation, reward, terminated, truncated, _ = env.last()
        assert observation["action_mask"][names.index(cell)] == 1
        assert (reward, terminated, truncated) == (0.0, False, False)
        env.step(names.index(cell))
    assert env.rewards == {"player_0": 1.0, "player_1": -1.0}
    assert env.terminations == {"player_0": True, "player_1": True}
    seen = bytes(env.observe("player_0")["observation"]).rstrip(b"\0").decode()
    assert seen == '{"cells":"PE_PE_P__"}'
    assert env.observe("player_0")["action_mask"].sum() == 0


def test_equal_seeds_are_equal_matches_and_no_seed_is_another_one():
    def lake(seed):
        env = to_pettingzoo(FrozenLake(slippery=True), parallel=True)
        seen = [env.reset(seed=seed)[0]["player_0"]["observation"].tobytes()]
        for number in range(20):
            if env.agents:
                seen.append(env.step({"player_0": number % 4})[0]["player_0"]["observation"].tobytes())
        return seen

    assert lake(3) == lake(3)
    assert lake(3) != lake(4)
    env = to_pettingzoo(FrozenLake(), parallel=True)
    starts = {env.reset()[0]["player_0"]["observation"].tobytes() for _ in range(5)}
    assert len(starts) > 1


def test_a_match_that_is_too_long_is_truncated():
    env = to_pettingzoo(Hands(), parallel=True, max_steps=2)
    env.reset(seed=0)
    env.step({"player_0": 0, "player_1": 0})
    _, paid, terminated, truncated, _ = env.step({"player_0": 0, "player_1": 1})
    assert paid == {"player_0": 0.0, "player_1": 0.0}
    assert truncated == {"player_0": True, "player_1": True}
    assert not any(terminated.values())
    assert env.agents == []


def test_a_match_of_turns_that_is_too_long_is_truncated_too():
    env = to_pettingzoo(TicTacToe(first=0), max_steps=2)
    env.reset(seed=0)
    env.step(0)
    assert not any(env.truncations.values())
    env.step(1)
    assert env.truncations == {"player_0": True, "player_1": True}
    assert not any(env.terminations.values())
    env.step(None)
    env.step(None)
    assert env.agents == []


def test_an_illegal_action_ends_the_match_of_turns_and_is_an_error_elsewhere():
    env = to_pettingzoo(TicTacToe(first=0))
    env.reset(seed=0)
    env.step(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env.step(0)
    assert all(env.terminations.values())
    assert env._cumulative_rewards["player_1"] == -1.0
    both = to_pettingzoo(Hands(), parallel=True)
    both.reset(seed=0)
    with pytest.raises(GameError, match="'three' is not legal for player_0 now"):
        both.step({"player_0": 2, "player_1": 2})


def test_there_and_back_is_the_same_game():
    """Our game as their environment as a game: the same rewards for the same moves."""
    ours = TicTacToe(first=0)
    back = from_pettingzoo(lambda: to_pettingzoo(ours), chance="none", rewards=(-1, 1), success="positive_return")
    names = to_pettingzoo(ours).unwrapped.action_names
    for number in range(20):
        rng = generator("there", number)
        state, other = ours.initial(rng), back.initial(rng)
        terminated = False
        while not terminated:
            actions = random_actions(ours, state, rng)
            transition = ours.step(state, actions, rng)
            numbered = {seat: str(names.index(action)) for seat, action in actions.items()}
            found = back.step(other, numbered, rng)
            assert dict(found.reward) == dict(transition.reward)
            assert found.terminated == transition.terminated
            state, other, terminated = transition.state, found.state, transition.terminated
        assert dict(found.success) == dict(transition.success)


def test_what_has_no_list_of_actions_or_no_room_is_said():
    class Talk(Hands):
        def legal(self, state, player):
            return None

    with pytest.raises(UserError, match="Talk takes any text; pass the list of its actions"):
        to_pettingzoo(Talk())
    with pytest.raises(UserError, match=r"A view takes \d+ bytes, more than 8"):
        to_pettingzoo(TicTacToe(), size=8)


def test_a_shipped_game_goes_out_by_its_name_and_what_is_no_game_is_said():
    env = lapwing.to_pettingzoo("tic_tac_toe")
    assert env.unwrapped.game == TicTacToe()
    assert env.possible_agents == ["player_0", "player_1"]
    assert lapwing.to_pettingzoo("chain", parallel=True).possible_agents == ["player_0"]
    with pytest.raises(UserError, match="There is no 'tic_tac_to' in games; did you mean tic_tac_toe"):
        lapwing.to_pettingzoo("tic_tac_to")
    for other in (TicTacToe, 7):
        with pytest.raises(UserError, match="takes a game, such as TicTacToe"):
            lapwing.to_pettingzoo(other)
