"""Environments of Gymnasium as users bring them: unusual spaces, wrappers, masks, generators and functions."""

import pickle
import random
import sys
import types
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces, wrappers

from lapwing.api.as_toml import as_toml
from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.games.adapters._toy_text import ToyState
from lapwing.games.adapters.gymnasium import Gymnasium, from_gymnasium
from lapwing.games.contract import check_game
from lapwing.games.frozen_lake import FrozenLake
from lapwing.games.game import has_exact_outcomes
from lapwing.tabular.enumerate import enumerate_game
from lapwing.tabular.value_iteration import optimal_values


class Anything(gymnasium.Env):
    """Shows anything of its space, drawn by chance, and remembers what it was told to do."""

    def __init__(self, action_space=None, observation_space=None):
        self.action_space = action_space or spaces.Discrete(2)
        self.observation_space = observation_space or spaces.Discrete(4)
        self.told = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.told = []
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.told.append(action)
        return self.observation_space.sample(), 0.0, len(self.told) == 5, False, {}


class Line(gymnasium.Env):
    """A walk on a line, whose steps are drawn from a generator of a kind of one's own."""

    observation_space = spaces.Discrete(40)
    action_space = spaces.Discrete(2, start=1)

    def __init__(self, kind="own", length=12):
        self.kind, self.length = kind, length
        # Some forget to seed what they draw from.
        self.gen = {"unseeded": np.random.default_rng(0)}.get(kind)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.kind in ("own", "older", "random"):
            make = {"own": np.random.default_rng, "older": np.random.RandomState, "random": random.Random}
            self.gen = make[self.kind](seed)
        self.place, self.steps = self.draw(), 0
        return self.place, {}

    def draw(self):
        if self.kind == "space":
            return int(self.action_space.sample())
        return int(self.gen.random() * 3)

    def step(self, action):
        self.place += self.draw()
        self.steps += 1
        return self.place, float(action), self.steps >= self.length, False, {}


def path(game, actions, name="path"):
    state, found = game.initial(generator(name)), []
    for step, action in enumerate(actions):
        transition = game.step(state, {0: action}, generator(name, step))
        state = transition.state
        found.append(transition)
    return found


D = spaces.Discrete


@pytest.mark.parametrize(
    ("space", "names", "last"),
    [
        (D(3, start=-1), ("-1", "0", "1"), 1),
        (spaces.MultiDiscrete([2, 2], start=[1, -1]), ("1 -1", "1 0", "2 -1", "2 0"), [2, 0]),
        (spaces.MultiBinary(2), ("0 0", "0 1", "1 0", "1 1"), [1, 1]),
        (spaces.Tuple((D(2), D(2, start=5))), ("0 5", "0 6", "1 5", "1 6"), (1, 6)),
        (spaces.Dict({"go": D(2), "say": D(1)}), ("go 0 say 0", "go 1 say 0"), {"go": 1, "say": 0}),
    ],
    ids=str,
)
def test_actions_of_every_space_that_is_a_list(space, names, last):
    env = Anything(space)
    game = from_gymnasium(lambda: Anything(space))
    check_game(game, matches=2, max_steps=6, other_process=False)
    assert game.legal(game.initial(generator(0)), 0) == names
    live = from_gymnasium(env, restore="replay")
    [transition] = path(live, [names[-1]])
    told = next(reversed(_replayer_of(live)._live.values()))._env.told[-1]
    assert np.array_equal(told, last) if not isinstance(last, (dict, tuple)) else told == last
    assert not transition.terminated


def _replayer_of(game):
    from lapwing.games.adapters.gymnasium import _environment

    return _environment(game)._replayer


def test_texts_as_actions_are_made_to_fit_the_space():
    space = spaces.Text(min_length=2, max_length=4, charset="abc ")
    game = from_gymnasium(lambda: Anything(space), restore="copy")
    assert game.legal(game.initial(generator(0)), 0) is None
    path(game, ["abc", "a", "xaybzccc", ""])
    told = next(reversed(_replayer_of(game)._live.values()))._env.told
    assert told == ["abc", "a ", "abcc", "  "]
    assert from_gymnasium(lambda: Anything(space)).restorable


@pytest.mark.parametrize(
    "space",
    [
        spaces.Sequence(D(3)),
        spaces.Sequence(spaces.Box(0, 1, (2,)), stack=True),
        spaces.OneOf((D(2), spaces.Tuple((D(3), spaces.MultiBinary(2))))),
        spaces.MultiDiscrete([3, 3], start=[5, -4]),
        spaces.Box(-3, 3, (2, 2), np.int64),
        spaces.Box(-1, 1, ()),
        spaces.Dict({"a": spaces.Sequence(D(2)), "b": spaces.Dict({"c": D(9)})}),
    ],
    ids=str,
)
def test_observations_of_every_space_are_said_with_words_that_were_announced(space):
    game = from_gymnasium(lambda: Anything(None, space))
    assert game.restorable  # though the space draws from a generator of its own
    check_game(game, matches=2, max_steps=6, other_process=False)
    words = set(game.words())
    said = {w for n in range(5) for t in path(game, "01" * 2, n) for w in game.view(t.state, 0).text.split()}
    assert said <= words


def test_what_has_no_words_is_refused_and_whole_numbers_are_said_to_the_last_digit():
    graph = spaces.Graph(spaces.Box(0, 1, (2,)), D(2))
    with pytest.raises(UserError, match=r"kind Graph.*pass describe="):
        from_gymnasium(lambda: Anything(None, graph))
    assert from_gymnasium(lambda: Anything(None, graph), describe=lambda graph: "a graph").restorable
    game = from_gymnasium(lambda: Anything(None, D(10**6)))
    shown = {t.state.scene.view for n in range(4) for t in path(game, "0110", n)}
    for view in shown:
        assert view.text.replace(" ", "") == f"state{view.observation}"


# Fails when the table is asked by the place of a name in the list instead of by its action.
def test_a_table_of_some_actions_takes_those_and_no_others():
    game = from_gymnasium("Taxi-v4", actions={"get": 4, "up": 1})
    full = from_gymnasium("Taxi-v4")
    for number in (0, 21, 243):
        state = ToyState(number)
        assert game.legal(state, 0) == ("get", "up")
        assert game.outcomes(state, {0: "get"}) == full.outcomes(state, {0: "pickup"})
        assert game.outcomes(state, {0: "up"}) == full.outcomes(state, {0: "north"})
    masked = from_gymnasium("Taxi-v4", actions={"get": 4, "up": 1, "down": 0}, legal_actions="mask")
    corner = ToyState(((0 * 5 + 0) * 5 + 0) * 4 + 1)  # the passenger waits here, the wall is to the north
    assert masked.legal(corner, 0) == ("get", "down")
    # The same numbers by another name: what nobody exceeds who never looks is that of the actions that there are.
    dry = {"desc": ["SG"], "is_slippery": False}
    ceilings = [from_gymnasium("FrozenLake-v1", actions={"a": n}, options=dry).null_ceiling for n in (1, 2)]
    assert ceilings == pytest.approx([0.0, 1.0], abs=1e-6)


class Masked(Anything):
    where, mask = "info", [0, 1, 0, 0, 1, 1]

    def __init__(self):
        super().__init__(spaces.MultiDiscrete([2, 3]), spaces.Dict({"x": D(3)}))
        if self.where == "observation":
            self.observation_space = spaces.Dict({"x": D(3), "action_mask": spaces.MultiBinary(6)})
        if self.where == "method":
            self.action_masks = lambda: np.array(self.mask)

    def _shown(self, found):
        if self.where == "observation":
            found[0]["action_mask"] = np.array(self.mask, np.int8)
        return (*found[:-1], {"action_mask": self.mask} if self.where == "info" else {})

    def reset(self, **given):
        return self._shown(super().reset(**given))

    def step(self, action):
        return self._shown(super().step(action))


@pytest.mark.parametrize("where", ["info", "observation", "method"])
def test_a_mask_is_found_wherever_environments_keep_it(where):
    kind = type("Masked", (Masked,), {"where": where})
    game = from_gymnasium(kind, legal_actions="mask")
    state = game.initial(generator(0))
    assert game.legal(state, 0) == ("0 1", "1 1", "1 2")
    assert game.legal(path(game, ["1 2"])[0].state, 0) == ("0 1", "1 1", "1 2")
    named = from_gymnasium(kind, legal_actions="mask", actions={"wave": [1, 1], "stay": [0, 0]})
    assert named.legal(named.initial(generator(0)), 0) == ("wave",)
    # As Gymnasium's own sampling has it: an array for each of the choices.
    joint = type("Masked", (Masked,), {"where": "info", "mask": (np.array([1, 0]), np.array([1, 0, 1]))})
    assert from_gymnasium(joint, legal_actions="mask").legal(game.initial(generator(0)), 0) is not None
    joint = from_gymnasium(joint, legal_actions="mask")
    assert joint.legal(joint.initial(generator(0)), 0) == ("0 0", "0 2")
    short = type("Masked", (Masked,), {"mask": [1, 1]})
    with pytest.raises(UserError, match="has 2 entries, and there are 6 actions"):
        from_gymnasium(short, legal_actions="mask")


# Fails when the words or names that are known of a class are used for what a wrapper has changed.
def test_a_wrapper_that_changes_observations_or_actions_takes_the_known_words_away():
    def lake():
        return gymnasium.make("FrozenLake-v1", is_slippery=False)

    timed = from_gymnasium(lambda: wrappers.TimeAwareObservation(lake()))
    text = timed.view(timed.initial(generator(0)), 0).text
    assert text.startswith("1 , 0 , 0 ,")  # the state and the time, in numbers
    check_game(timed, matches=2, max_steps=10, other_process=False)
    mirrored = from_gymnasium(lambda: wrappers.TransformObservation(lake(), lambda seen: 15 - seen, D(16)))
    assert mirrored.view(mirrored.initial(generator(0)), 0).text == "state 15"
    assert not has_exact_outcomes(mirrored)
    turned = from_gymnasium(lambda: wrappers.TransformAction(lake(), lambda number: 3 - number, D(4)))
    assert turned.legal(turned.initial(generator(0)), 0) == ("0", "1", "2", "3")
    sticky = from_gymnasium(lambda: wrappers.StickyAction(lake(), 0.25))
    assert sticky.legal(sticky.initial(generator(0)), 0) == ("left", "down", "right", "up")
    assert not has_exact_outcomes(sticky)
    with pytest.raises(UserError, match="a wrapper changes that"):
        from_gymnasium(lambda: wrappers.TimeAwareObservation(lake()), describe="frozen_lake")
    paid = from_gymnasium(lambda: wrappers.TransformReward(lake(), lambda reward: 10 * reward - 1))
    assert "lake" in paid.view(paid.initial(generator(0)), 0).text
    assert path(paid, ["left"])[0].reward == {0: -1.0}


class FrozenLakeEnv(Anything):
    """Somebody's own, which has the name of Gymnasium's and nothing else of it."""

    def __init__(self):
        super().__init__(D(4), D(3))


def test_a_class_that_only_has_the_name_of_a_known_one_is_not_that_one():
    game = from_gymnasium(FrozenLakeEnv)
    assert game.legal(game.initial(generator(0)), 0) == ("0", "1", "2", "3")
    assert not game.has_success


@pytest.mark.parametrize("kind", ["own", "older", "random", "space", "unseeded"])
def test_generators_of_an_environments_own_are_keyed_like_all_chance(kind):
    game = from_gymnasium(lambda: Line(kind))
    assert game.restorable
    check_game(game, matches=2, max_steps=15, other_process=False)
    start = game.initial(generator("line"))
    after = {game.step(start, {0: "1"}, generator("branch", n)).state.scene.view for n in range(30)}
    assert len(after) >= 2 if kind == "space" else len(after) == 3
    assert len({game.initial(generator("start", n)).scene.view for n in range(30)}) >= 2
    assert game.step(start, {0: "1"}, generator("branch", 3)) == game.step(start, {0: "1"}, generator("branch", 3))


def test_a_function_makes_an_environment_anew_with_the_options():
    game = from_gymnasium(Line, options={"length": 3})
    assert [t.terminated for t in path(game, "111")] == [False, False, True]
    assert pickle.loads(pickle.dumps(game)) == game
    with pytest.raises(UserError, match="does not make an environment of"):
        from_gymnasium(Line, options={"size": 3})
    with pytest.raises(UserError, match="this one was given"):
        from_gymnasium(Line(), options={"length": 3})
    one = Line()
    with pytest.raises(UserError, match="returned the same one twice"):
        from_gymnasium(lambda: one)


def test_the_time_limit_is_told_however_the_environment_is_given():
    assert from_gymnasium("gymnasium:Taxi-v4").time_limit == 200
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert from_gymnasium("Taxi").time_limit == 200
        limited = wrappers.TimeLimit(wrappers.TransformReward(wrappers.TimeLimit(Line(), 9), float), 7)
    assert from_gymnasium(limited).time_limit == 7
    assert from_gymnasium(Line).time_limit is None


def test_an_environment_of_another_package_is_named_with_it(tmp_path, monkeypatch):
    (tmp_path / "own_package.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.toy_text.cliffwalking import CliffWalkingEnv\n"
        "class Own(CliffWalkingEnv):\n    def __init__(self, size=3, render_mode=None):\n        super().__init__()\n"
        "gymnasium.register('own/Line-v3', 'own_package:Own', kwargs={'size': 4}, max_episode_steps=10)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        game = from_gymnasium("own_package:own/Line-v3")
        given = from_gymnasium(gymnasium.make("own/Line-v3", size=2))
        assert given == from_gymnasium("own_package:own/Line-v3", options={"size": 2})
        assert as_toml(game) == '{ "name" = "gymnasium", "env" = "own_package:own/Line-v3" }'
        check_game(given, matches=1, max_steps=5)  # also in a process that has not imported it
        for wrong in ("own_package:own/Lime-v3", "own_package:own/Line-v4"):
            with pytest.raises(UserError, match="did you mean own_package:own/Line-v3"):
                from_gymnasium(wrong)
    finally:
        gymnasium.registry.pop("own/Line-v3", None)
        sys.modules.pop("own_package", None)


def test_who_asks_for_something_else_is_told_where_it_is():
    with pytest.raises(UserError, match=r"no environment 'ALE/Pong-v5'; .* named with the module that registers it"):
        from_gymnasium("ALE/Pong-v5")
    with pytest.raises(UserError, match=r"no environment 'Taxi v4'"):
        from_gymnasium("Taxi v4")
    vector = gymnasium.make_vec("CartPole-v1", num_envs=2)
    with pytest.raises(UserError, match="not a vector of them"):
        from_gymnasium(vector)
    vector.close()
    with pytest.raises(UserError, match=r"lapwing\.from_pettingzoo"):
        from_gymnasium(lambda: types.SimpleNamespace(possible_agents=["a"], unwrapped=None))


class OldReset(Line):
    def reset(self, *, seed=None, options=None):
        return 0


class OldStep(Line):
    def step(self, action):
        return super().step(action)[:4]


class NoSeed(Line):
    def reset(self):
        return 0, {}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (OldReset, r"returns no \(observation, info\)"),
        (OldStep, r"returns no \(observation, reward, terminated"),
        (NoSeed, "takes no seed"),
    ],
)
def test_what_does_not_keep_to_the_interface_is_said(kind, said):
    with pytest.raises(UserError, match=said):
        from_gymnasium(kind)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"options": [1]}, "game.options is a table"),
        ({"rewards": (1,)}, "game.rewards is"),
        ({"rewards": ("a", "b")}, "game.rewards is"),
        ({"env": "Pendulum-v1", "actions": {"push": [[1], [1, 2]]}}, "is no action of"),
        ({"env": "CliffWalking-v1", "actions": {}}, "names no action"),
        ({"env": "CliffWalking-v1", "actions": ("a  b", "c", "d", "e")}, "one blank apart"),
    ],
)
def test_settings_that_cannot_be_are_said(settings, said):
    with pytest.raises(UserError, match=said):
        Gymnasium(**settings)


def test_bounds_may_be_a_list_of_whole_numbers():
    assert from_gymnasium("CartPole-v1", rewards=[0, 1]).reward_range == (0.0, 1.0)


@pytest.mark.parametrize("map_name", ["4x4", "8x8"])
@pytest.mark.parametrize("slippery", [False, True])
def test_gymnasiums_lake_is_worth_what_ours_is(map_name, slippery):
    theirs = from_gymnasium("FrozenLake-v1", options={"map_name": map_name, "is_slippery": slippery})
    tables = [enumerate_game(game) for game in (theirs, FrozenLake(map_name=map_name, slippery=slippery))]
    values = [[float(table.start @ value) for value in optimal_values(table, 100)] for table in tables]
    np.testing.assert_allclose(values[0], values[1], rtol=0.0, atol=1e-12)
    assert values[0][100] > 0.6


def test_a_long_match_costs_the_same_at_its_end_as_at_its_beginning():
    steps = []

    class Counted(Line):
        def step(self, action):
            steps.append(1)
            return super().step(action)

    game = from_gymnasium(lambda: Counted(length=10**6), restore="replay")
    before = len(steps)
    path(game, "1" * 300)
    assert len(steps) - before == 300
