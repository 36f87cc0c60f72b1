"""PettingZoo's interfaces at their edges: agents that die early, unusual numbers and names, texts, many cycles."""

import warnings

import numpy as np
import pettingzoo
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from pettingzoo.classic.tictactoe import tictactoe as tictactoe_v3
from pettingzoo.utils import parallel_to_aec, wrappers

from lapwing.core.errors import GameError, UserError
from lapwing.core.rng import generator
from lapwing.games.adapters.pettingzoo import Pettingzoo, from_pettingzoo, to_pettingzoo
from lapwing.games.adapters.textarena import Textarena
from lapwing.games.contract import check_game
from lapwing.games.kuhn_poker import KuhnPoker
from lapwing.games.matrix_game import MatrixGame
from lapwing.games.rotated import Rotated
from lapwing.games.snake import Snake
from lapwing.policies.baselines import Random
from lapwing.policies.opponents import exact_opponents
from lapwing.tabular.enumerate import enumerate_game

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, seed_test


class Table(pettingzoo.AECEnv):
    """Agents add 1 or 2 in turn; who makes the sum a multiple of 5 dies, and is paid, and so is who sat first."""

    metadata = {"name": "table_v0", "is_parallelizable": True}  # noqa: RUF012
    render_mode = None

    def __init__(self, agents=("a", "b", "c"), *, cut=False, asks_the_dead=False):
        super().__init__()
        self.possible_agents, self.cut, self.asks_the_dead = list(agents), cut, asks_the_dead

    def observation_space(self, agent):
        return Discrete(100)

    def action_space(self, agent):
        return Discrete(2, start=1)

    def observe(self, agent):
        return self.sum

    def reset(self, seed=None, options=None):
        self.agents, self.sum = list(self.possible_agents), 0
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {} for agent in self.agents}
        self.agent_selection = self.agents[0]

    def step(self, action):
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        assert self.action_space(agent).contains(action)
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self.sum += int(action)
        dies = self.sum % 5 == 0
        over = self.truncations if self.cut else self.terminations
        if dies:
            self.rewards[agent] = -1.0
            over[agent] = True
            self.rewards[self.agents[0]] += 0.25
        if self.sum >= 23:
            over.update(dict.fromkeys(self.agents, True))
        living = [a for a in self.agents if not (self.terminations[a] or self.truncations[a])]
        later = self.possible_agents[self.possible_agents.index(agent) + 1 :]
        after = [a for a in [*later, *self.possible_agents] if a in living]
        self.agent_selection = agent if self.asks_the_dead and dies else after[0] if after else agent
        self._accumulate_rewards()
        self._deads_step_first()


def choose(number, legal):
    return legal[(number * 7 + number // 3) % len(legal)]


def outside(env):
    """What PettingZoo's own loop pays, and who acts in which order."""
    env.reset(seed=0)
    paid, order = dict.fromkeys(env.possible_agents, 0.0), []
    for agent in env.agent_iter(max_iter=500):
        _, reward, terminated, truncated, _ = env.last()
        paid[agent] += reward
        if terminated or truncated:
            env.step(None)
            continue
        env.step(choose(len(order), [1, 2]))
        order.append(agent)
    return list(paid.values()), order


# Fails when a reward of a step in which somebody dies is lost, or counted twice.
@pytest.mark.parametrize("agents", [("a", "b", "c"), (0, 1, 2), ("only",), tuple("abcdefg")], ids=str)
@pytest.mark.parametrize("cut", [False, True])
def test_agents_that_die_early_are_paid_what_pettingzoos_own_loop_pays_them(agents, cut):
    paid, order = outside(Table(agents, cut=cut))
    game = from_pettingzoo(lambda: Table(agents, cut=cut))
    state, found, seats, terminated = game.initial(generator(0)), np.zeros(len(agents)), [], False
    while not terminated:
        [seat] = game.players(state)
        transition = game.step(state, {seat: choose(len(seats), ["1", "2"])}, generator(0))
        found += [transition.reward[n] for n in range(len(agents))]
        seats.append(agents[seat])
        state, terminated = transition.state, transition.terminated
    assert seats == order
    assert found.tolist() == paid
    assert any(paid)
    assert set(seats) == set(agents)
    check_game(game, matches=3, max_steps=40, other_process=False)
    wrapped = from_pettingzoo(wrappers.OrderEnforcingWrapper(Table(agents, cut=cut)))
    check_game(wrapped, matches=1, max_steps=40, other_process=False)


def test_who_asks_an_agent_that_has_left_is_told():
    game = from_pettingzoo(lambda: Table(asks_the_dead=True), chance="none")
    with pytest.raises(GameError, match="who has left; it breaks the AEC interface"):
        game.initial(generator(0))  # a few moves are played to see how states can be restored


class Leavers(pettingzoo.ParallelEnv):
    """Four agents, each with one action more than the one before, leave one by one."""

    metadata = {"name": "leavers_v0"}  # noqa: RUF012
    render_mode = None

    def __init__(self):
        self.possible_agents = [f"agent_{number}" for number in (3, 1, 4, 2)]

    def observation_space(self, agent):
        return Box(-1, 1, (2,), np.float32)

    def action_space(self, agent):
        return Discrete(2 + self.possible_agents.index(agent))

    def _seen(self):
        return {agent: np.array([self.steps / 20, 0.5], np.float32) for agent in self.agents}

    def reset(self, seed=None, options=None):
        self.agents, self.steps = list(self.possible_agents), 0
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.steps += 1
        seen, paid = self._seen(), {agent: float(actions[agent]) for agent in self.agents}
        gone = {agent: self.steps % 3 == 0 and agent == self.agents[-1] for agent in self.agents}
        before, self.agents = self.agents, [agent for agent in self.agents if not gone[agent]]
        return seen, paid, gone, dict.fromkeys(before, False), {agent: {} for agent in before}


def test_agents_that_leave_a_parallel_environment_pay_the_same_in_turns():
    found = []
    for env in (Leavers, lambda: parallel_to_aec(Leavers())):
        game = from_pettingzoo(env, rewards=(0, 5))
        assert [len(game.legal(game.initial(generator(0)), seat)) for seat in range(4)] == [2, 3, 4, 5]
        check_game(game, matches=2, max_steps=40, other_process=False)
        state, paid, asked, terminated = game.initial(generator(0)), np.zeros(4), [0] * 4, False
        while not terminated:
            actions = {}
            for seat in game.players(state):
                actions[seat] = choose(asked[seat], game.legal(state, seat))
                asked[seat] += 1
            transition = game.step(state, actions, generator(0))
            paid += [transition.reward[seat] for seat in range(4)]
            state, terminated = transition.state, transition.terminated
        found.append((paid.tolist(), asked))
    assert found[0] == found[1]
    assert found[0][1] == [12, 9, 6, 3]


# Fails when a step of a board game is made again, or an environment is made for each of them.
def test_what_shows_everything_and_draws_nothing_is_stepped_once_for_each_position():
    count = {"made": 0, "steps": 0}

    class Counted(tictactoe_v3.raw_env):
        def __init__(self):
            super().__init__()
            count["made"] += 1

        def step(self, action):
            count["steps"] += 1
            super().step(action)

    game = from_pettingzoo(Counted)
    table = enumerate_game(game, opponents=exact_opponents({1: Random()}))
    assert table.num_states == 5478
    assert count["made"] < 1100
    first = dict(count)
    again = enumerate_game(game, opponents=exact_opponents({1: Random()}))
    assert count == first
    assert again.states == table.states
    # Each state tells its own way, whoever was there first.
    ways = []
    for cells in (("a1", "b2", "c3"), ("c3", "b2", "a1")):
        state = game.initial(generator(0))
        for number, cell in enumerate(cells):
            state = game.step(state, {number % 2: cell}, generator(0)).state
        ways.append(state)
    assert ways[0] == ways[1]
    numbers = [[actions[0][1] for actions, _ in state.way.moves] for state in ways]
    assert numbers == [[2, 4, 6], [6, 4, 2]]


def quietly(test, *arguments, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        test(*arguments, **settings)


SEATED = {
    "rotated": Rotated,
    "kuhn_poker": KuhnPoker,
    "matrix_game": MatrixGame,
    "snakes": lambda: Snake(num_snakes=3),
    "connect_four of PettingZoo": lambda: Pettingzoo("connect_four_v3"),
}


@pytest.mark.parametrize("name", SEATED)
def test_games_of_several_players_pass_pettingzoos_tests_for_many_cycles(name, capsys):
    game = SEATED[name]()
    quietly(api_test, to_pettingzoo(game, max_steps=30), num_cycles=1000)
    assert "Passed API test" in capsys.readouterr().out
    quietly(seed_test, lambda: to_pettingzoo(game, max_steps=30), num_cycles=60)


@pytest.mark.parametrize("name", ["matrix_game", "snakes"])
def test_games_of_simultaneous_moves_pass_the_parallel_tests(name):
    game = SEATED[name]()
    quietly(parallel_api_test, to_pettingzoo(game, parallel=True, max_steps=30), num_cycles=1000)
    if name == "matrix_game":  # that test chooses without a look at the masks
        quietly(parallel_seed_test, lambda: to_pettingzoo(game, parallel=True, max_steps=30))


def test_a_game_of_any_texts_goes_out_with_the_texts_that_are_given():
    texts = [f"[{cell}]" for cell in range(9)]
    env = to_pettingzoo(Textarena("TicTacToe-v0", 2), actions=texts, size=1 << 14, max_steps=12)
    quietly(api_test, env, num_cycles=40)
    env.reset(seed=0)
    assert env.observe("player_0")["action_mask"].tolist() == [1] * 9
    for cell in (0, 3, 1, 4, 2):
        env.step(cell)
    assert env.rewards == {"player_0": 1.0, "player_1": -1.0}
    space = env.observation_space("player_0")
    assert isinstance(space, Dict)


def test_settings_that_cannot_be_are_said_and_lists_are_taken():
    game = from_pettingzoo("rps_v2", actions=["r", "p", "s"], rewards=[-1, 1])
    assert game.legal(game.initial(generator(0)), 1) == ("r", "p", "s")
    assert game.reward_range == (-1.0, 1.0)
    with pytest.raises(UserError, match=r"no setting 'max_cycles'.*go into settings=\{"):
        from_pettingzoo("rps_v2", max_cycles=3)
    with pytest.raises(UserError, match="game.settings is a table".replace(".", r"\.")):
        from_pettingzoo("rps_v2", settings=[3])
    for rewards in ((1,), ("a", "b"), (2, 1)):
        with pytest.raises(UserError, match="the lowest and the highest reward"):
            from_pettingzoo("rps_v2", rewards=rewards)
    one = Leavers()
    with pytest.raises(UserError, match="returned the same one twice"):
        _ = from_pettingzoo(lambda: one).num_players
