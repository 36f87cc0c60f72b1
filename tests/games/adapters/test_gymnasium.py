"""Environments of Gymnasium as games, held against the environments themselves."""

import dataclasses
import pickle
import warnings
from collections import Counter

import gymnasium
import numpy as np
import pytest

import lapwing
from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.core.types import Match
from lapwing.games.adapters._environments import GymnasiumView
from lapwing.games.adapters._toy_text import ToyState
from lapwing.games.adapters.gymnasium import Gymnasium, from_gymnasium
from lapwing.games.contract import check_game
from lapwing.games.game import has_exact_outcomes
from lapwing.policies.baselines import Random
from lapwing.rollout.play import play
from lapwing.tabular.enumerate import enumerate_game
from lapwing.tabular.policy_evaluation import policy_values, uniform_policy
from lapwing.tabular.value_iteration import optimal_values

TABULAR = [
    ("FrozenLake-v1", {}),
    ("Taxi-v4", {}),
    ("Taxi-v4", {"is_rainy": True}),
    ("Taxi-v4", {"fickle_passenger": True}),
    ("CliffWalking-v1", {}),
    ("CliffWalkingSlippery-v1", {}),
    ("Blackjack-v1", {}),
    ("Blackjack-v1", {"sab": False, "natural": True}),
]
STEPPED = [("CartPole-v1", {}), ("Acrobot-v1", {})]


class Pairs(gymnasium.Env):
    """Adds pairs of numbers until a drawn goal is passed; what it shows is a table of several kinds."""

    observation_space = gymnasium.spaces.Dict(
        {
            "sum": gymnasium.spaces.Box(-np.inf, np.inf, (1,)),
            "signs": gymnasium.spaces.MultiBinary(2),
            "place": gymnasium.spaces.Tuple((gymnasium.spaces.Discrete(5), gymnasium.spaces.Text(9))),
        }
    )
    action_space = gymnasium.spaces.MultiDiscrete([2, 3])

    def __init__(self, limit=1000, mask=False):
        self.limit, self.mask = limit, mask

    def shown(self):
        signs = np.array([self.sum > 1, self.sum > 3], dtype=np.int8)
        return {"sum": np.array([self.sum], np.float32), "signs": signs, "place": (self.steps % 5, "go on")}

    def info(self):
        return (
            {"action_mask": np.array([1, 0, 1, 0, 0, self.steps % 2]), "is_success": self.sum < 5.3}
            if self.mask
            else {}
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.sum, self.steps = float(self.np_random.random()), 0
        return self.shown(), self.info()

    def step(self, action):
        self.steps += 1
        self.sum += int(action[0]) - int(action[1]) / 2 + float(self.np_random.random())
        return self.shown(), self.sum, self.sum > 5, self.steps >= self.limit, self.info()


class Elsewhere(Pairs):
    def step(self, action):
        self.sum += float(np.random.random())  # noqa: NPY002
        return super().step(action)


class Uncopied(Pairs):
    def __deepcopy__(self, memo):
        raise TypeError("a window cannot be copied")


def played(game, number, steps=30):
    """States, actions and transitions of a random match."""
    state = game.initial(generator("played", number))
    found = []
    for step in range(steps):
        legal = game.legal(state, 0)
        action = legal[int(generator("choice", number, step).integers(len(legal)))]
        transition = game.step(state, {0: action}, generator("chance", number, step))
        found.append((state, action, transition))
        state = transition.state
        if transition.terminated:
            break
    return found


def optimum(game, steps):
    table = enumerate_game(game)
    return float(table.start @ optimal_values(table, steps)[-1])


@pytest.mark.parametrize(("name", "options"), TABULAR, ids=str)
def test_tables_keep_the_contract(name, options):
    game = from_gymnasium(name, options=options)
    assert has_exact_outcomes(game)
    check_game(game, matches=3, max_steps=30, other_process=False)


@pytest.mark.parametrize(("name", "options"), STEPPED, ids=str)
def test_environments_that_are_stepped_keep_the_contract(name, options):
    game = from_gymnasium(name, options=options)
    assert not has_exact_outcomes(game)
    assert game.restorable
    check_game(game, matches=2, max_steps=12)


# Fails when a row of a table, a probability of Blackjack or a fickle passenger is not the environment's.
@pytest.mark.parametrize(("name", "options"), TABULAR, ids=str)
def test_what_the_environment_does_is_what_the_table_says(name, options):
    game = from_gymnasium(name, options=options)
    env = gymnasium.make(name, max_episode_steps=-1, **options)
    seen, expected = Counter(), Counter()
    for number in range(150):
        shown, _ = env.reset(seed=number)
        drawn = generator("real", number)
        # What the table says of what comes next, given all that was seen: hidden parts of a state are unknown.
        belief = {state: p for p, state in game.initial_outcomes() if game.view(state, 0).observation == shown}
        for step in range(25):
            action = int(drawn.integers(env.action_space.n))
            name_of = game.legal(next(iter(belief)), 0)[action]
            after = Counter()
            total = sum(belief.values())
            for state, p in belief.items():
                for q, transition in game.outcomes(state, {0: name_of}):
                    view = game.view(transition.state, 0)
                    key = (view.observation, transition.reward[0], transition.terminated)
                    after[key, transition.state] += p * q / total
            for (key, _), p in after.items():
                expected[step < 1, key[1:]] += p
            shown, reward, terminated, _, _ = env.step(action)
            now = (shown, float(reward), bool(terminated))
            seen[step < 1, now[1:]] += 1
            belief = {state: p for (key, state), p in after.items() if key == now}
            assert belief, f"{now} is not in the table"
            if terminated:
                break
    for key, count in expected.items():
        assert abs(seen[key] - count) <= 5.0 * np.sqrt(count) + 1.0, key


def test_the_optimum_is_what_is_known_of_it():
    assert optimum(from_gymnasium("CliffWalking-v1"), 60) == -13.0
    assert optimum(from_gymnasium("Taxi-v4"), 200) == pytest.approx(7.93, abs=5e-4)
    assert optimum(from_gymnasium("FrozenLake-v1"), 100) == pytest.approx(0.7442, abs=5e-4)
    # 150,000 matches of the real environment with this policy gave -0.0408, with a standard error of 0.0025.
    assert optimum(from_gymnasium("Blackjack-v1"), 20) == pytest.approx(-0.0431, abs=5e-5)


def test_every_state_of_blackjack_looks_like_no_other():
    game = from_gymnasium("Blackjack-v1")
    table = enumerate_game(game)
    views = [game.view(state, 0) for state, legal in zip(table.states, table.legal, strict=True) if legal]
    assert len(set(views)) == len(views)
    # Ace and ten against a nine, which no dealer turns into 21 with two cards.
    natural = next(view for view in views if view.observation == (21, 9, 1) and "natural" in view.text)
    assert natural.text == "sum 21 . usable ace yes . dealer shows 9 . natural"
    worth = {
        view.text: sum(p * t.reward[0] for p, t in game.outcomes(state, {0: "stick"}))
        for state in table.states
        if (view := game.view(state, 0)).observation == (21, 9, 1)
    }
    assert worth.pop(natural.text) == pytest.approx(1.0)
    assert 0.9 < worth.pop("sum 21 . usable ace yes . dealer shows 9") < 1.0


def test_what_nobody_exceeds_who_never_looks():
    # Up, right or left, or at random: every step costs 1, and whoever never looks does not arrive.
    assert from_gymnasium("CliffWalking-v1").null_ceiling == pytest.approx(-100.0)
    assert from_gymnasium("Taxi-v4").null_ceiling == pytest.approx(-100.0)
    assert from_gymnasium("CartPole-v1").null_ceiling is None
    # The goal beside the start: always to the right.
    env = gymnasium.make("FrozenLake-v1", desc=["SG"], is_slippery=False)
    assert from_gymnasium(env).null_ceiling == pytest.approx(1.0)
    # Always the same or anything at random, by the solver that knows nothing of this.
    lake = from_gymnasium("FrozenLake-v1")
    table = enumerate_game(lake)
    blind = [uniform_policy(table)]
    for number in range(4):
        blind.append(np.zeros_like(blind[0]))
        blind[-1][table.is_legal[:, 0], number] = 1.0
    worth = [float(table.start @ policy_values(table, policy, 100)[-1]) for policy in blind]
    assert lake.null_ceiling == pytest.approx(max(worth))


def test_a_fickle_passenger_changes_the_destination_once_and_one_match_in_three():
    game = from_gymnasium("Taxi-v4", options={"fickle_passenger": True})
    starts = game.initial_outcomes()
    assert len(starts) == 600
    assert sum(p for p, state in starts if state.fickle) == pytest.approx(0.3)
    # The taxi at (2, 2) with the passenger in it, who wants to go to red.
    moved = game.outcomes(ToyState(((2 * 5 + 2) * 5 + 4) * 4, fickle=True), {0: "south"})
    assert [(round(p, 6), t.state.number % 4, t.state.fickle) for p, t in moved] == [
        (0.333333, 1, False),
        (0.333333, 2, False),
        (0.333333, 3, False),
    ]
    # A wall in the way: nobody moved, and nobody changed their mind.
    ((_, stayed),) = game.outcomes(ToyState(((0 * 5 + 0) * 5 + 4) * 4 + 1, fickle=True), {0: "north"})
    assert stayed.state == ToyState(((0 * 5 + 0) * 5 + 4) * 4 + 1, fickle=True)


def test_an_environment_that_does_not_keep_to_its_table_is_stepped_itself():
    class Drifting(gymnasium.envs.toy_text.cliffwalking.CliffWalkingEnv):
        def step(self, a):
            return super().step((a + 1) % 4)

    assert not has_exact_outcomes(from_gymnasium(Drifting))
    with pytest.raises(UserError, match="no transition table that it keeps to"):
        from_gymnasium(Drifting, restore="table")


def test_words_say_where_everything_is():
    taxi = from_gymnasium("Taxi-v4")
    number = ((3 * 5 + 1) * 5 + 2) * 4 + 1
    assert taxi.view(ToyState(number), 0) == GymnasiumView(
        "taxi row 3 column 1 . passenger at yellow row 4 column 0 . destination green row 0 column 4 . walls west",
        number,
    )
    assert "passenger in taxi" in taxi.view(ToyState(((3 * 5 + 1) * 5 + 4) * 4 + 1), 0).text
    cliff = from_gymnasium("CliffWalking-v1")
    assert (
        cliff.view(ToyState(36), 0).text
        == "row 3 column 0 . goal row 3 column 11 . left edge down edge right cliff up free"
    )
    lake = from_gymnasium("FrozenLake-v1", options={"is_slippery": False})
    assert lake.view(ToyState(4), 0).text.startswith(
        "dry lake : S F F F / F H F H / F F F H / H F F G . row 1 column 0 ."
    )
    assert "slippery lake" in from_gymnasium("FrozenLake-v1").view(ToyState(4), 0).text


@pytest.mark.parametrize(("name", "options"), [*TABULAR, *STEPPED, ("Pairs", {})], ids=str)
def test_every_word_that_is_seen_was_announced(name, options):
    game = from_gymnasium(Pairs if name == "Pairs" else name, options=options)
    words = set(game.words())
    for number in range(10):
        for _, _, transition in played(game, number):
            said = set(game.view(transition.state, 0).text.split())
            assert said - {"go", "on"} <= words


# The walls that are told are those that stop the taxi.
def test_taxi_walls_are_true():
    game = from_gymnasium("Taxi-v4")
    for number in range(0, 500, 20):
        text = game.view(ToyState(number), 0).text.partition("walls ")[2].split()
        for action in ("south", "north", "east", "west"):
            ((_, transition),) = game.outcomes(ToyState(number), {0: action})
            assert (transition.state.number == number) == (action in text)


def test_a_match_won_is_told():
    cliff = from_gymnasium("CliffWalking-v1")
    ((_, fell),) = cliff.outcomes(ToyState(36), {0: "right"})
    assert (fell.reward[0], fell.terminated, fell.success) == (-100.0, False, None)
    ((_, arrived),) = cliff.outcomes(ToyState(35), {0: "down"})
    assert (arrived.reward[0], arrived.terminated, arrived.success) == (-1.0, True, {0: True})
    jack = from_gymnasium("Blackjack-v1")
    for _, transition in jack.outcomes(jack.initial_outcomes()[0][1], {0: "stick"}):
        assert transition.success == {0: transition.reward[0] > 0.0}
    assert not from_gymnasium("Taxi-v4", success="none").has_success
    told = from_gymnasium(lambda: Pairs(mask=True), success="info", legal_actions="mask")
    ends = [t for n in range(20) for _, _, t in played(told, n, 60) if t.terminated]
    assert {t.success[0] for t in ends} == {True, False}
    assert all(t.success[0] == (told.view(t.state, 0).observation[2][1][0] < 5.3) for t in ends)
    own = from_gymnasium(Pairs, success=lambda observation, reward, info: reward > 5.5)
    ends = [t for n in range(20) for _, _, t in played(own, n, 60) if t.terminated]
    assert {(t.reward[0] > 5.5) == t.success[0] for t in ends} == {True}


def test_the_legal_actions_can_be_those_of_a_mask():
    every, masked = from_gymnasium("Taxi-v4"), from_gymnasium("Taxi-v4", legal_actions="mask")
    corner = ToyState(((0 * 5 + 0) * 5 + 0) * 4 + 1)
    assert len(every.legal(corner, 0)) == 6
    assert masked.legal(corner, 0) == ("south", "east", "pickup")
    stepped = from_gymnasium(lambda: Pairs(mask=True), legal_actions="mask")
    start = stepped.initial(generator("mask"))
    assert stepped.legal(start, 0) == ("0 0", "0 2")
    assert stepped.legal(stepped.step(start, {0: "0 0"}, generator("a")).state, 0) == ("0 0", "0 2", "1 2")
    with pytest.raises(UserError, match="action_mask"):
        from_gymnasium("CliffWalking-v1", legal_actions="mask")
    with pytest.raises(UserError, match="action_mask"):
        from_gymnasium("CartPole-v1", legal_actions="mask", restore="replay").initial(generator("a"))


def test_an_environment_of_ones_own_with_many_kinds_of_observation():
    game = from_gymnasium(Pairs)
    state = game.initial(generator("pairs"))
    assert game.legal(state, 0) == ("0 0", "0 1", "0 2", "1 0", "1 1", "1 2")
    place, signs, total = game.view(state, 0).observation
    assert (place, signs) == (("place", (0, "go on")), ("signs", (0, 0)))
    assert type(total[1][0]) is float
    assert game.view(state, 0).text.startswith("place : 0 , go on , . signs : 0 , 0 , . sum : 0 . ")
    check_game(game, matches=3, max_steps=20)
    assert not game.has_success


@pytest.mark.parametrize("restore", ["copy", "replay"])
def test_branches_with_other_chance_differ_and_with_the_same_are_the_same(restore):
    game = from_gymnasium(Pairs, restore=restore)
    path = played(game, 0)
    for state, action, transition in path[::3]:
        again = game.step(state, {0: action}, generator("other"))
        assert again.state.scene != transition.state.scene
        assert game.step(state, {0: action}, generator("other")) == again


# Fails when a state of one match is stepped with another's environment.
def test_a_group_plays_the_same_however_states_are_restored():
    found = []
    for restore in ("copy", "replay", "never"):
        game = from_gymnasium(Pairs, restore=restore)
        matches = [Match(game, 0, "test", 0, number // 4, number % 4, 12) for number in range(8)]
        episodes = play(matches, {0: Random()})
        found.append([[(step.view, step.action, step.reward) for step in episode.steps] for episode in episodes])
    assert found[0] == found[1] == found[2]
    assert len({len(steps) for steps in found[0]}) > 1


def test_without_chance_in_a_step_equal_moves_are_equal_states():
    game = from_gymnasium("CartPole-v1")
    start = game.initial(generator("pole"))
    assert len({game.step(start, {0: "left"}, generator("chance", n)).state for n in range(5)}) == 1


def test_who_draws_elsewhere_or_cannot_be_copied_is_found_out():
    assert not from_gymnasium(Elsewhere).restorable
    game = from_gymnasium(Uncopied)
    assert game.restorable
    state, action, transition = played(game, 1)[2]
    assert game.step(state, {0: action}, generator("chance", 1, 2)) == transition
    with pytest.raises(UserError, match=r"cannot be copied .*a function that makes it"):
        from_gymnasium(Uncopied())
    assert not from_gymnasium(Pairs, restore="never").restorable
    check_game(from_gymnasium(Pairs, restore="never"), matches=2, max_steps=10)


def test_a_time_limit_is_taken_off_and_a_rule_inside_is_kept():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limited = gymnasium.wrappers.TimeLimit(Pairs(limit=7), 3)
    wrapped = gymnasium.wrappers.TransformReward(limited, lambda reward: 0.5 * reward)
    state = from_gymnasium(wrapped).initial(generator("limit"))
    game = from_gymnasium(wrapped)
    for step in range(7):
        transition = game.step(state, {0: "0 2"}, generator("limit", step))
        state = transition.state
        assert transition.terminated == (step == 6)
    assert transition.parts == {"cut": 1.0}
    assert transition.reward[0] == pytest.approx(0.5 * game.view(state, 0).observation[2][1][0], rel=1e-5)
    assert from_gymnasium("Taxi-v4").time_limit == 200
    # The environment that was given is as it was.
    assert type(wrapped.env).__name__ == "TimeLimit"


def test_an_environment_that_gymnasium_made_is_known_by_its_id():
    game = from_gymnasium(gymnasium.make("Taxi-v4", is_rainy=True))
    assert game == from_gymnasium("Taxi-v4", options={"is_rainy": True})
    assert game != from_gymnasium("Taxi-v4")
    assert hash(game) == hash(dataclasses.replace(game))
    assert pickle.loads(pickle.dumps(game)) == game


def test_actions_can_be_named():
    assert from_gymnasium("Taxi-v4", actions=list("abcdef")).legal(ToyState(0), 0) == tuple("abcdef")
    with pytest.raises(UserError, match=r"are Box\(-2\.0, 2\.0"):
        from_gymnasium("Pendulum-v1")
    game = from_gymnasium("Pendulum-v1", actions={"left": [-2.0], "still": [0.0], "right": [2.0]})
    state = game.initial(generator("pendulum"))
    assert game.legal(state, 0) == ("left", "still", "right")
    env = gymnasium.make("Pendulum-v1")
    env.reset(seed=state.seed)
    shown, reward, *_ = env.step(np.array([2.0], np.float32))
    transition = game.step(state, {0: "right"}, generator("any"))
    assert transition.reward[0] == float(reward)
    assert game.view(transition.state, 0).observation == tuple(shown.tolist())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"env": "Taxy-v4"}, "did you mean Taxi-v4"),
        ({"env": "Taxi-v3"}, "did you mean Taxi-v4"),
        ({"env": "Taxi-v99"}, "did you mean Taxi-v4"),
        ({"env": "Taxi-v4", "options": {"rainy": True}}, "does not take game.options"),
        ({"env": "Taxi-v4", "options": {"max_episode_steps": 5}}, "sampler.max_steps"),
        ({"env": "Taxi-v4", "actions": ("a", "b")}, "has 6 actions, and game.actions names 2"),
        ({"env": "CliffWalking-v1", "actions": ("a", "b", "a", "c")}, "have one name"),
        ({"env": "CliffWalking-v1", "actions": {"a": 7}}, "is no action of"),
        ({"env": "Taxi-v4", "describe": "taxis"}, "did you mean taxi"),
        ({"env": "Taxi-v4", "describe": "blackjack"}, "of another environment"),
        ({"env": "Taxi-v4", "success": "won"}, "game.success is no"),
        ({"env": "Taxi-v4", "restore": "copied"}, "game.restore is no"),
        ({"env": "Taxi-v4", "rewards": (1.0, 0.0)}, "game.rewards"),
        ({"env": 3}, "game.env is the id"),
        ({"env": lambda: 3}, "it is no Gymnasium one"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(settings, said):
    with pytest.raises(UserError, match=said):
        Gymnasium(**settings)


def test_pictures_need_words():
    class Picture(Pairs):
        observation_space = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)
        action_space = gymnasium.spaces.Discrete(2)

        def shown(self):
            return np.full((64, 64, 3), self.steps, np.uint8)

        def step(self, action):
            return super().step((action, 0))

    with pytest.raises(UserError, match="12,288 numbers"):
        from_gymnasium(Picture)
    game = from_gymnasium(Picture, describe=lambda picture: f"shade {picture[0, 0, 0]}")
    assert game.view(game.initial(generator("picture")), 0) == GymnasiumView("shade 0", None)
    assert {"shade", "0", "1"} <= set(game.words())
    wrong = from_gymnasium(Picture, describe=lambda picture: 3, restore="copy")
    with pytest.raises(UserError, match="a function from an observation to a text"):
        wrong.initial(generator("picture"))


def test_the_package_offers_it():
    assert lapwing.from_gymnasium is from_gymnasium
    with pytest.raises(UserError, match="did you mean restore"):
        lapwing.from_gymnasium("Taxi-v4", restored="copy")
