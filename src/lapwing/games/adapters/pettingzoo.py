"""PettingZoo: its environments as games, and games as its environments."""

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import NoneType
from typing import Any, ClassVar, Literal

import numpy as np

from lapwing.core import registry
from lapwing.core.errors import UserError, nearest, shown
from lapwing.core.rng import generator
from lapwing.core.storage import canonical_json
from lapwing.core.types import Transition, View
from lapwing.games.adapters._pettingzoo_known import KNOWN, Known, PettingzooView, text_view
from lapwing.games.adapters._pettingzoo_live import NO_CHANCE, Scene, TogetherLive, TurnsLive
from lapwing.games.adapters._pettingzoo_outward import TogetherOutward, TurnsOutward, actions_of, as_bytes
from lapwing.games.adapters._pettingzoo_package import environment_of, is_turns, name_of, pettingzoo_package
from lapwing.games.adapters._replayed import ReplayedState, Replayer, probed_mode

_SUCCESS = ("positive_return", "none")
_CHANCE = ("none", "reset", "steps")
# Matches whose words the vocabulary of a tiny model is made of, and how long they are.
_HEARD, _HEARD_STEPS = 4, 40
# Steps of board games that are made once: all 16,167 of tic-tac-toe; of connect four they take 100 MB.
_KNOWN_STEPS = 20_000


@dataclass(frozen=True, slots=True)
class ObservedState:
    """A state that is told from others by its scene alone; `way` is how an environment gets there."""

    scene: Scene
    way: ReplayedState = field(compare=False)


@dataclass(frozen=True)
class Pettingzoo:
    """Play an environment of PettingZoo: seats are its agents in order, and what it pays is the reward.

    | action | meaning |
    | --- | --- |
    | a1, b1, c1, … | tictactoe_v3: the cells as `tic_tac_toe` names them |
    | a, b, c, … | connect_four_v3: the columns from the left |
    | rock, paper, scissors | rps_v2 |
    | 0, 1, 2, … | any other environment whose actions have no names |

    View: at tic-tac-toe and connect four that of the games `tic_tac_toe` and `connect_four`, elsewhere the observation
    in words, or what `describe` makes of it. Only actions that the mask allows are legal.

    Start: the environment's reset. Where agents act in turn (AEC) one seat decides at a time; where they act at once
    (parallel) all live agents do. An agent that ends before the others is not asked any more. The game ends when no
    agent is left, terminated or truncated: an environment's own limit is a rule of the game.

    Reward: what the environment pays each agent for the step. Where `success` is "positive_return", a seat whose
    rewards add up to more than 0 has won.

    Reference: Terry et al. 2021, "PettingZoo: Gym for Multi-Agent Reinforcement Learning".
      https://arxiv.org/abs/2009.14471

    Attributes:
      env: a name, such as "tictactoe_v3" or "pettingzoo.classic.tictactoe_v3"; from Python also a module, a function
        that makes an environment, or an environment.
      settings: keyword arguments of the environment.
      api: "aec", "parallel", or None for parallel where the environment offers it.
      actions: names of the actions, in the order of their numbers.
      describe: from Python, a function of an observation and a seat that gives a view, or a text.
      chance: what the environment draws at random: "none"; "reset", the start, which decides all that follows;
        "steps", each step by a seed of its own too. None looks: known environments draw nothing, others draw in steps
        if they have `np_random`, else at the reset.
      fully_observed: two ways to the same observations of all agents and the same mover lead to one state, so that
        states can be enumerated. None is True for the board games above.
      rewards: lowest and highest reward of a step; None for −1 and 1 at the games above, −1000 and 1000 elsewhere.
      success: "positive_return" or "none"; None for the former at the games above.
    """

    env: Any = "tictactoe_v3"
    settings: dict[str, Any] | None = field(default=None, compare=False)
    api: Literal["aec", "parallel"] | None = None
    actions: tuple[str, ...] = ()
    describe: Any = None
    chance: Literal["none", "reset", "steps"] | None = None
    fully_observed: bool | None = None
    rewards: tuple[float, float] | None = None
    success: Literal["positive_return", "none"] | None = None

    _key: str = field(init=False, repr=False, default="")

    restorable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, value, options in (("chance", self.chance, _CHANCE), ("success", self.success, _SUCCESS)):
            if value is not None and value not in options:
                raise UserError(f"game.{name} is not '{value}'; {nearest(str(value), options)}")
        if self.api not in (None, "aec", "parallel"):
            raise UserError(f"game.api is 'aec' or 'parallel', not '{self.api}'.")
        if self.rewards is not None:
            object.__setattr__(self, "rewards", _bounds(self.rewards))
        if not isinstance(self.settings, (Mapping, NoneType)):
            raise UserError(f"game.settings is a table of keyword arguments, not {shown(self.settings)}.")
        object.__setattr__(self, "actions", tuple(self.actions))  # from Python it may be a list
        object.__setattr__(self, "_key", canonical_json(self.settings or {}))

    @property
    def num_players(self) -> int:
        """One seat for each possible agent."""
        return len(self._facts.agents)

    @property
    def reward_range(self) -> tuple[float, float]:
        """What a step pays at least and at most."""
        low, high = self.rewards or self._facts.known.reward_range or (-1000.0, 1000.0)
        return float(low), float(high)

    @property
    def has_success(self) -> bool:
        """Whether a positive return is a win."""
        wins = self.success or ("positive_return" if self._facts.known.wins else "none")
        return wins == "positive_return"

    def initial(self, rng: np.random.Generator) -> Any:
        """Reset the environment."""
        replayer = self._replayer
        return self._state(replayer.begun(0) if self._facts.chance == "none" else replayer.initial(rng))

    def players(self, state: Any) -> tuple[int, ...]:
        """Who decides."""
        return state.scene.movers

    def view(self, state: Any, player: int) -> View:
        """The last observation of an agent."""
        seen = state.scene.seen[player]
        if self.describe is not None:
            said = self.describe(seen, player)
            return PettingzooView(said) if isinstance(said, str) else said
        return (self._facts.known.view or text_view)(seen)

    def legal(self, state: Any, player: int) -> tuple[str, ...]:
        """The actions that the mask allows; all of them for a seat that is not asked."""
        names = self._facts.actions[player]
        scene = state.scene
        if player not in scene.movers:
            return names
        return tuple([names[number] for number in scene.legal[scene.movers.index(player)]])

    def step(self, state: Any, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Step the environment, or a copy of it that stands in this state."""
        return self._stepped(state, actions, rng if self._facts.chance == "steps" else NO_CHANCE)

    def scripted(self, state: Any, player: int, rng: np.random.Generator) -> str:
        """An opponent who does anything that is legal, each with the same probability."""
        legal = self.legal(state, player)
        return legal[int(rng.integers(len(legal)))]

    def words(self) -> set[str]:
        """The names of the actions, and the words that a few random matches show."""
        found = {name for names in self._facts.actions for name in names}
        for number in range(_HEARD):
            rng = generator("words", number)
            state = self.initial(rng)
            for _ in range(_HEARD_STEPS):
                views = [self.view(state, seat) for seat in range(self.num_players)]
                found.update(word for view in views if type(view) is PettingzooView for word in view.text.split())
                if not state.scene.movers:
                    break
                drawn = {p: self.legal(state, p) for p in state.scene.movers}
                actions = {p: legal[int(rng.integers(len(legal)))] for p, legal in drawn.items()}
                state = self.step(state, actions, rng).state
        return found

    def __getattr__(self, name: str) -> Any:
        if name in ("null_ceiling", "rotated_null_ceiling") and getattr(self._facts.known, name) is not None:
            return getattr(self._facts.known, name)
        # Only where nothing is drawn, the outcomes can be listed.
        if name == "outcomes" and self._facts.chance != "steps":
            return self._outcomes
        if name == "initial_outcomes" and self._facts.chance == "none":
            return self._starts
        raise AttributeError(f"{type(self).__name__} has no {name}")

    def _outcomes(self, state: Any, actions: Mapping[int, str]) -> list[tuple[float, Transition]]:
        return [(1.0, self._stepped(state, actions, NO_CHANCE))]

    def _starts(self) -> list[tuple[float, Any]]:
        return [(1.0, self._state(self._replayer.begun(0)))]

    def _state(self, way: ReplayedState) -> Any:
        return ObservedState(way.scene, way) if self._facts.fully_observed else way

    def _stepped(self, state: Any, actions: Mapping[int, str], rng: Any) -> Transition:
        names = self._facts.actions
        numbers = {seat: names[seat].index(action) for seat, action in actions.items()}
        is_observed = isinstance(state, ObservedState)
        if is_observed and self._facts.chance == "none":
            transition = _known(self, state, tuple(sorted(numbers.items())))
            # A state tells its own way, not that of whoever was here first.
            move = (tuple(sorted(numbers.items())), 0)
            way = ReplayedState(state.way.seed, (*state.way.moves, move), transition.state.scene)
            transition = replace(transition, state=way)
        else:
            transition = self._replayer.step(state.way if is_observed else state, numbers, rng)
        success = None
        if transition.terminated and self.has_success:
            success = {seat: total > 0.0 for seat, total in enumerate(transition.state.scene.returns)}
        return replace(transition, state=self._state(transition.state), success=success)

    @property
    def _facts(self) -> "_Facts":
        return _facts(self)

    @property
    def _replayer(self) -> Replayer:
        return _replayer(self)


def _bounds(rewards: Any) -> tuple[float, float]:
    try:
        low, high = (float(bound) for bound in rewards)
    except (TypeError, ValueError):
        low, high = np.nan, np.nan
    if not -np.inf < low <= high < np.inf:
        raise UserError(f"game.rewards is the lowest and the highest reward of a step, not {shown(rewards)}.")
    return low, high


@dataclass(frozen=True)
class _Facts:
    """What an environment says of itself, and what is known of it."""

    agents: tuple[str, ...]
    actions: tuple[tuple[str, ...], ...]
    chance: str
    fully_observed: bool
    known: Known


@lru_cache(maxsize=64)
def _facts(game: Pettingzoo) -> _Facts:
    env = environment_of(game.env, game.settings or {}, game.api)
    if environment_of(game.env, game.settings or {}, game.api).unwrapped is env.unwrapped:
        raise UserError(
            "The function that makes the environment returned the same one twice; matches are played side by side, so "
            "that each needs one of its own: let the function make it."
        )
    agents = getattr(env, "possible_agents", None)
    if not agents:
        raise UserError(f"{name_of(env)} does not say who may play (`possible_agents`), so that there are no seats.")
    known = KNOWN.get(str(env.metadata.get("name", "")), Known()) if game.describe is None else Known()
    chance = game.chance or known.chance
    if chance is None:
        env.reset(seed=0)
        chance = "steps" if getattr(env.unwrapped, "np_random", None) is not None else "reset"
    observed = known.fully_observed if game.fully_observed is None else game.fully_observed
    if observed and chance == "reset":
        raise UserError("game.fully_observed needs states that say what comes: set chance to 'none' or 'steps'.")
    actions = tuple(_action_names(env, agent, game.actions or known.actions) for agent in agents)
    return _Facts(tuple(str(agent) for agent in agents), actions, chance, bool(observed), known)


def _action_names(env: Any, agent: Any, names: tuple[str, ...]) -> tuple[str, ...]:
    space = env.action_space(agent)
    if type(space).__name__ != "Discrete":
        raise UserError(
            f"{agent} of {name_of(env)} acts in {space}; a language agent needs a list of actions (Discrete), so wrap "
            "the environment in one that has it."
        )
    if not names:
        return tuple(str(int(space.start) + number) for number in range(int(space.n)))
    if len(names) != space.n or len(set(names)) < len(names):
        raise UserError(f"game.actions names {len(names)} actions; {agent} of {name_of(env)} has {space.n} of them.")
    return tuple(names)


@lru_cache(maxsize=64)
def _replayer(game: Pettingzoo) -> Replayer:
    facts = _facts(game)

    def make() -> Any:
        env = environment_of(game.env, game.settings or {}, game.api)
        return (TurnsLive if is_turns(env) else TogetherLive)(env, chance=facts.chance)

    def choose(scene: Scene, rng: np.random.Generator) -> dict[int, int]:
        return {p: legal[int(rng.integers(len(legal)))] for p, legal in zip(scene.movers, scene.legal, strict=True)}

    if facts.known.chance == "none":
        return Replayer(make, mode="replay", begins_clean=True)
    return Replayer(make, mode=probed_mode(make, choose))


@lru_cache(maxsize=_KNOWN_STEPS)
def _known(game: Pettingzoo, state: ObservedState, numbers: tuple[tuple[int, int], ...]) -> Transition:
    """A step of a game that shows everything and draws nothing; it is made once, whichever way led there."""
    transition = _replayer(game).step(_first_way(game, state), dict(numbers), NO_CHANCE)
    _first_way(game, ObservedState(transition.state.scene, transition.state))
    return transition


@lru_cache(maxsize=_KNOWN_STEPS)
def _first_way(game: Pettingzoo, state: ObservedState) -> ReplayedState:  # noqa: ARG001  (part of the key)
    """The way that first led to a state, where an environment may stand; equal states give the one that was kept."""
    return state.way


def from_pettingzoo(env: Any, **settings: Any) -> Pettingzoo:
    """The game that an environment of PettingZoo is.

        game = lapwing.from_pettingzoo("connect_four_v3")
        game = lapwing.from_pettingzoo(my_module, actions=("left", "right"), settings={"size": 5})

    Args:
      env: its name, a module with `env` or `parallel_env`, a function that makes one, or an environment.
      settings: further settings of the game `pettingzoo`, and keyword arguments of the environment in `settings`.

    Raises:
      UserError: there is no such environment, a setting does not fit it, or the package is missing.
    """
    names = {field.name for field in dataclasses.fields(Pettingzoo) if field.init}
    for name in settings:
        if name not in names:
            raise UserError(
                f"from_pettingzoo has no setting {shown(name)}; {nearest(name, names)} Keyword arguments of the "
                "environment go into settings={…}."
            )
    game = Pettingzoo(env, **settings)
    _facts(game)  # whatever is wrong with it is said now, and not when it is played
    return game


def to_pettingzoo(
    game: Any,
    *,
    parallel: bool = False,
    max_steps: int = 200,
    actions: Sequence[str] | None = None,
    encode: Callable[[View], np.ndarray] | None = None,
    size: int = 1024,
    seed: int = 0,
) -> Any:
    """The environment of PettingZoo that a game is; its agents are the seats `player_0`, `player_1` and so on.

    An observation is {"observation": an array, "action_mask": which actions are legal}. An illegal action ends the
    match, as in PettingZoo's own games of turns; in a parallel environment it is an error.

    Args:
      game: of Lapwing, or the name of a shipped one. With one player there is one agent.
      parallel: all agents act in every step, for games in which all seats decide at once; else they take turns.
      max_steps: of the game, after which a match is truncated.
      actions: the texts of all actions, in the order of their numbers; None plays some matches to find them.
      encode: from a view to an array of fixed shape; None for the view's canonical JSON as `size` bytes.
      size: see `encode`.
      seed: of the matches that are begun without a seed.

    Raises:
      UserError: there is no such game, it takes any text and `actions` is left out, or the package is missing.
    """
    if isinstance(game, str):
        game = registry.resolve("games", game)()
    elif isinstance(game, type) or not hasattr(game, "num_players"):
        raise UserError(f"to_pettingzoo takes a game, such as TicTacToe(), or the name of one, not {shown(game)}.")
    package = pettingzoo_package()
    base, kind = (package.ParallelEnv, TogetherOutward) if parallel else (package.AECEnv, TurnsOutward)
    made = type(kind.__name__, (kind, base), {})(
        game,
        importlib.import_module("pettingzoo.utils.env").gymnasium.spaces,
        actions=actions_of(game) if actions is None else list(actions),
        encode=encode or as_bytes(size),
        max_steps=max_steps,
        seed=seed,
    )
    if parallel:
        return made
    wrappers = importlib.import_module("pettingzoo.utils.wrappers")
    checked = wrappers.TerminateIllegalWrapper(made, illegal_reward=game.reward_range[0])
    return wrappers.OrderEnforcingWrapper(wrappers.AssertOutOfBoundsWrapper(checked))
