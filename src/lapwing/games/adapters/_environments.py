"""Two ways to play an environment of Gymnasium: on its transition table, and with the environment itself."""

import contextlib
import copy
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from lapwing.core.errors import UserError, nearest, shown
from lapwing.core.rng import generator
from lapwing.core.types import Transition
from lapwing.games.adapters._actions import ActionNames, action_names
from lapwing.games.adapters._gymnasium_package import (
    acts_as_made,
    began,
    check_one_environment,
    copied_environment,
    limit_of,
    made_environment,
    moved_on,
    registered_limit,
    without_time_limits,
)
from lapwing.games.adapters._gymnasium_words import Description, description, known_of
from lapwing.games.adapters._own_generators import draw_from, spaces_of
from lapwing.games.adapters._replayed import MODES, Moved, ReplayedState, Replayer, probed_mode
from lapwing.games.adapters._spaces import plain
from lapwing.games.adapters._toy_text import ToyTable, blind_return, toy_table
from lapwing.games.game import drawn

RESTORE = ("auto", "table", *MODES)
LEGAL = ("all", "mask")
_SUCCESS = ("terminated", "reward", "info", "none")
# Where nothing is known of an environment's rewards.
_WIDE = (-1e9, 1e9)
# Matches and steps of random play in which the words of a person's own descriptions are looked for.
_MATCHES, _STEPS = 30, 50
# The steps for which games state what those get who never look.
_BLIND = 100


@dataclass(frozen=True, slots=True)
class GymnasiumView:
    """What an environment shows.

    Attributes:
      text: the observation in words.
      observation: the observation as plain data; None where a function of yours says what a player may know of it.
    """

    text: str
    observation: Any


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to see: the view, and the actions that may be taken."""

    view: GymnasiumView
    legal: tuple[str, ...] | None


class Setup:
    """An environment, how it is described, what its actions are called, and when it is won."""

    def __init__(self, settings: Any) -> None:
        """Make the environment once and look at it.

        Args:
          settings: a game with the settings of `Gymnasium`.

        Raises:
          UserError: a setting does not fit the environment.
        """
        self.settings = settings
        raw = self._raw()
        limit = registered_limit(raw) if isinstance(settings.env, str) else limit_of(raw)
        self.env = without_time_limits(raw)
        spec = self.env.spec
        self.name = type(self.env.unwrapped).__name__ if spec is None else spec.id
        self.time_limit: int | None = limit
        if callable(settings.env) and self.made().unwrapped is self.env.unwrapped:
            raise UserError(
                "The function that makes the environment returned the same one twice; matches are played side by side, "
                "so that each needs one of its own: let the function make it."
            )
        known = known_of(self.env)
        self.description: Description = description(settings.describe, self.env, self.name)
        space = self.env.action_space
        fits = known.actions is not None and acts_as_made(self.env) and space.n == len(known.actions)
        given = known.actions if settings.actions is None and fits else settings.actions
        self.actions: ActionNames = action_names(space, given, self.name)
        success = known.success if settings.success is None else settings.success
        if not callable(success) and success not in (None, *_SUCCESS):
            raise UserError(f"game.success is no {shown(success)}; {nearest(str(success), _SUCCESS)}")
        self.success = None if success == "none" else success

    def made(self) -> Any:
        """A new environment, without time limits."""
        return without_time_limits(self._raw())

    def _raw(self) -> Any:
        env, options = self.settings.env, self.settings.options or {}
        if isinstance(env, str):
            return made_environment(env, options)
        if hasattr(env, "unwrapped") and not isinstance(env, type):
            if options:
                raise UserError("game.options are for environments that are made here, and this one was given.")
            return copied_environment(env)
        try:
            found = env(**options)
        except TypeError as error:
            if not options:
                raise
            raise UserError(
                f"{shown(env)} does not make an environment of game.options {shown(dict(options))}: {error}"
            ) from error
        check_one_environment(found)
        return found

    def view(self, observation: Any) -> GymnasiumView:
        """What a player may know of an observation."""
        own = callable(self.settings.describe)
        return GymnasiumView(self.description.text(observation), None if own else plain(observation))

    def succeeded(self, observation: Any, reward: float, terminated: bool, info: Mapping[str, Any]) -> bool:
        """Whether a match that is over was won."""
        if callable(self.success):
            return bool(self.success(observation, reward, info))
        if self.success == "info":
            return bool(info.get("is_success", info.get("success", False)))
        return terminated and (self.success == "terminated" or reward > 0.0)


class TableEnvironment:
    """An environment played on its transition table."""

    restorable = True

    def __init__(self, setup: Setup, table: ToyTable) -> None:
        """Play on this table.

        Args:
          setup: the environment.
          table: its own.
        """
        self._setup = setup
        self._table = table
        self.time_limit = setup.time_limit
        self._number = {name: int(raw) for name, raw in setup.actions.raw.items()}
        mask = getattr(setup.env.unwrapped, "action_mask", None)
        if setup.settings.legal_actions == "mask" and not callable(mask):
            raise UserError(f"The environment {setup.name!r} has no action_mask; leave game.legal_actions out.")
        self._mask = mask if setup.settings.legal_actions == "mask" else None
        self.has_success = setup.success is not None
        self.outcomes = lru_cache(maxsize=1 << 18)(self._outcomes)
        self.view = lru_cache(maxsize=1 << 16)(self._view)
        self.legal = lru_cache(maxsize=1 << 16)(self._legal)

    def initial_outcomes(self) -> list[tuple[float, Any]]:
        """Where matches begin."""
        return list(self._starts)

    def outcomes_of(self, state: Any, actions: Mapping[int, str]) -> list[tuple[float, Transition]]:
        """All outcomes of a step."""
        return self.outcomes(state, actions[0])

    def initial(self, rng: np.random.Generator) -> Any:
        """Draw a start."""
        possible = self._starts
        return possible[0][1] if len(possible) == 1 else possible[_drawn(self._heights, rng)][1]

    @cached_property
    def _starts(self) -> list[tuple[float, Any]]:
        return self._table.starts()

    @cached_property
    def _heights(self) -> np.ndarray:
        return np.cumsum([p for p, _ in self._starts])

    def step(self, state: Any, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Draw one of the outcomes."""
        possible = self.outcomes(state, actions[0])
        return possible[0][1] if len(possible) == 1 else drawn(possible, float(rng.random()))

    def _outcomes(self, state: Any, action: str) -> list[tuple[float, Transition]]:
        """All outcomes of an action."""
        setup = self._setup
        found = []
        for p, after, reward, terminated in self._table.rows(state, self._number[action]):
            success = None
            if terminated and setup.success is not None:
                success = {0: setup.succeeded(self._table.observation(after), reward, True, {})}
            found.append((p, Transition(after, {0: reward}, terminated, success)))
        return [(p, transition) for p, transition in found if p > 0.0]

    def _view(self, state: Any) -> GymnasiumView:
        view = self._setup.view(self._table.observation(state))
        beside = self._table.beside(state)
        own = callable(self._setup.settings.describe)
        return view if own or not beside else GymnasiumView(f"{view.text} . {beside}", view.observation)

    def _legal(self, state: Any) -> tuple[str, ...]:
        names = self._setup.actions
        return names.names or () if self._mask is None else names.allowed(self._mask(self._table.observation(state)))

    @cached_property
    def reward_range(self) -> tuple[float, float]:
        """The lowest and the highest reward in the table."""
        rewards = [0.0] if not self._everywhere else [reward for _, reward in self._everywhere]
        return min(rewards), max(rewards)

    @cached_property
    def null_ceiling(self) -> float:
        """What nobody exceeds in 100 steps who never looks, to a rounding."""
        return blind_return(self._table, list(self._number.values()), _BLIND) + 1e-9

    @cached_property
    def _everywhere(self) -> list[tuple[Any, float]]:
        """Every state that a transition leads to, and the reward on the way."""
        pending = [state for _, state in self._starts]
        seen = set(pending)
        found = []
        for state in pending:
            for action in self._setup.actions.names or ():
                for _, transition in self.outcomes(state, action):
                    found.append((transition.state, transition.reward[0]))
                    if transition.state not in seen and not transition.terminated:
                        seen.add(transition.state)
                        pending.append(transition.state)
        return found

    def words(self) -> set[str]:
        """The words of all views."""
        known = self._setup.description.words
        if known is not None:
            return set(known)
        states = {state for _, state in self._starts} | {state for state, _ in self._everywhere}
        return {word for state in states for word in self.view(state).text.split()}


def _drawn(heights: np.ndarray, rng: np.random.Generator) -> int:
    at = int(heights.searchsorted(rng.random() * heights[-1], side="right"))
    return min(at, len(heights) - 1)


class _Live:
    """A live environment of Gymnasium."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._env = setup.made()
        self._spaces = spaces_of(self._env)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Live":
        inner = self._env.unwrapped
        # What environments do not change is shared, which is most of the time of a copy.
        for part in (inner.observation_space, inner.action_space, inner.spec):
            memo[id(part)] = part
        twin = _Live.__new__(_Live)
        twin._setup, twin._env = self._setup, copy.deepcopy(self._env, memo)
        twin._spaces = spaces_of(twin._env)
        return twin

    def begin(self, seed: int) -> Scene:
        with contextlib.redirect_stdout(io.StringIO()):  # BabyAI prints which rooms it draws again
            draw_from(self._env, self._spaces, np.random.Generator(np.random.PCG64(seed)), seed)
            observation, info = began(self._env, seed, self._setup.name)
        return self._scene(observation, info)

    def advance(self, actions: Mapping[int, str], chance: int) -> Moved:
        setup, inner = self._setup, self._env.unwrapped
        inner.np_random = rng = np.random.Generator(np.random.PCG64(chance))
        drew = draw_from(self._env, self._spaces, rng, chance)
        before = rng.bit_generator.state
        found = moved_on(self._env, setup.actions.of(actions[0]), setup.name)
        observation, reward, terminated, truncated, info = found
        drew = drew or rng.bit_generator.state != before
        over = bool(terminated or truncated)
        success = None
        if over and setup.success is not None:
            success = {0: setup.succeeded(observation, float(reward), bool(terminated), info)}
        # A limit inside the environment is one of its rules; Gymnasium's own wrapper was taken off.
        parts = {"cut": 1.0} if truncated and not terminated else {}
        return Moved(self._scene(observation, info), {0: float(reward)}, over, success, None, parts, drew)

    def _scene(self, observation: Any, info: Mapping[str, Any]) -> Scene:
        setup = self._setup
        if setup.settings.legal_actions == "all":
            return Scene(setup.view(observation), setup.actions.names)
        return Scene(setup.view(observation), setup.actions.allowed(self._mask(observation, info)))

    def _mask(self, observation: Any, info: Mapping[str, Any]) -> Any:
        """Where environments tell which actions are legal: beside the observation, in it, or when they are asked."""
        if "action_mask" in info:
            return info["action_mask"]
        if isinstance(observation, Mapping) and "action_mask" in observation:
            return observation["action_mask"]
        asked = getattr(self._env.unwrapped, "action_masks", None)
        if callable(asked):
            return asked()
        raise UserError(
            f"The environment {self._setup.name!r} tells no info['action_mask']; leave game.legal_actions out."
        )


class LiveEnvironment:
    """An environment that plays itself; its states are the seed, the moves and what they led to."""

    reward_range = _WIDE
    null_ceiling = None

    def __init__(self, setup: Setup, restore: str) -> None:
        """Find out how its states can be restored, if that is not said.

        Args:
          setup: the environment.
          restore: "auto", or one of `MODES`.
        """
        self._setup = setup
        self.time_limit = setup.time_limit
        mode = probed_mode(self._make, self._choose) if restore == "auto" else restore
        self._replayer = Replayer(self._make, mode=mode)
        self.restorable = mode != "never"
        self.has_success = setup.success is not None
        self.initial = self._replayer.initial
        self.step = self._replayer.step

    def _make(self) -> _Live:
        return _Live(self._setup)

    def _choose(self, scene: Scene, rng: np.random.Generator) -> dict[int, str]:
        legal = scene.legal or (self._setup.actions.drawn(rng),)
        return {0: legal[int(rng.integers(len(legal)))]}

    def view(self, state: ReplayedState) -> GymnasiumView:
        """What the environment shows."""
        return state.scene.view

    def legal(self, state: ReplayedState) -> Sequence[str] | None:
        """What may be done."""
        return state.scene.legal

    def words(self) -> set[str]:
        """The words of all views, or of those that random play found."""
        known = self._setup.description.words
        return set(known) if known is not None else _words_found(self._make, self._choose)


def _words_found(make: Callable[[], _Live], choose: Callable[..., dict[int, str]]) -> set[str]:
    live, found = make(), set[str]()
    for match in range(_MATCHES):
        scene = live.begin(match)
        for step in range(_STEPS):
            found.update(scene.view.text.split())
            moved = live.advance(choose(scene, generator("words", match, step)), step + 1)
            scene = moved.scene
            if moved.terminated:
                break
        found.update(scene.view.text.split())
    return found


def environment_of(settings: Any) -> TableEnvironment | LiveEnvironment:
    """The environment of a game, on its table if it has one.

    Args:
      settings: a game with the settings of `Gymnasium`.

    Raises:
      UserError: a setting does not fit the environment.
    """
    setup = Setup(settings)
    table = toy_table(setup.env) if settings.restore in ("auto", "table") else None
    if table is not None:
        return TableEnvironment(setup, table)
    if settings.restore == "table":
        raise UserError(
            f"The environment {setup.name!r} has no transition table that it keeps to; leave game.restore out."
        )
    return LiveEnvironment(setup, settings.restore)
