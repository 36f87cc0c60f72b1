"""Environments of Gymnasium as games."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import NoneType
from typing import Any, ClassVar

import numpy as np

from lapwing.core.errors import UserError, nearest, shown
from lapwing.core.storage import canonical_json
from lapwing.core.types import State, Transition
from lapwing.games.adapters._environments import (
    LEGAL,
    RESTORE,
    GymnasiumView,
    LiveEnvironment,
    TableEnvironment,
    environment_of,
)
from lapwing.games.adapters._gymnasium_package import check_one_environment, registered


@dataclass(frozen=True)
class Gymnasium:
    """Play an environment of Gymnasium: a toy-text task on its transition table, any other by copies or replay.

    | action | meaning |
    | --- | --- |
    | as `actions` names them | else as the environment's own pages call them, or the number of the action as text |
    | any text | where the environment takes texts; letters that are none of its own are dropped, and what is too long |

    View: the observation in words, and as plain data.

    Taxi, CliffWalking, FrozenLake and Blackjack are played on their transition tables, so that exact credit, the audit
    and the optimal baseline work. Every other environment is stepped itself; its state is the seed and the moves so
    far, and it is restored by a deep copy or by playing it again. Its random generators are set anew at every step:
    `np_random`, others that are attributes of it or of its wrappers, and those of its spaces.

    The step cap of a match is the sampler's; Gymnasium's time limit is taken off, `time_limit` tells what it was. An
    environment that cuts its episodes by itself ends the match, without success, and the reward part `cut` is 1.

    Reward: the environment's own.

    Reference: Towers et al., Gymnasium. https://arxiv.org/abs/2407.17032

    Attributes:
      env: the id of an environment, as in `gymnasium.make`; from Python also an environment, or a function that makes
        one.
      options: keyword arguments of `gymnasium.make`, or of the function that makes the environment.
      actions: names of the actions in their order, or a table from names to actions, which may leave some out; None for
        what is known, or numbers.
      describe: a built-in description ("taxi", "cliff_walking", "frozen_lake", "blackjack", "numbers"), from Python
        also a function from an observation to a text; None for what fits.
      success: a match is won if it "terminated", with a "reward" above 0 at the end, as its "info" tells, or "none"
        (there is no such thing); from Python also a function of observation, reward and info. None for what is known.
      legal_actions: "all" actions in every state, or those of the environment's "mask": `action_mask` in the info or in
        the observation, or its method `action_masks`.
      restore: how states are stepped again: by the "table", by "copy", by "replay", "never"; "auto" finds out.
      rewards: lowest and highest reward of one step; None for those of the table, or very wide ones.
      vocabulary: further words of the views, for a tokenizer that is made for the game.
    """

    env: Any = "FrozenLake-v1"
    options: dict[str, Any] | None = field(default=None, compare=False)
    actions: tuple[str, ...] | dict[str, Any] | None = field(default=None, compare=False)
    describe: Any = None
    success: Any = None
    legal_actions: str = "all"
    restore: str = "auto"
    rewards: tuple[float, float] | None = None
    vocabulary: tuple[str, ...] = ()
    key: str = field(init=False, repr=False)

    num_players: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name, choices in (("restore", RESTORE), ("legal_actions", LEGAL)):
            value = getattr(self, name)
            if value not in choices:
                raise UserError(f"game.{name} is no {shown(value)}; {nearest(str(value), choices)}")
        if isinstance(self.actions, list):
            object.__setattr__(self, "actions", tuple(self.actions))
        if not isinstance(self.options, (Mapping, NoneType)):
            raise UserError(f"game.options is a table of keyword arguments, not {shown(self.options)}.")
        object.__setattr__(self, "options", dict(self.options or {}) or None)
        self._check_rewards()
        if hasattr(self.env, "unwrapped"):
            check_one_environment(self.env)
        elif not (isinstance(self.env, str) or callable(self.env)):
            raise UserError(f"game.env is the id of a Gymnasium environment, as in 'Taxi-v4', not {shown(self.env)}.")
        object.__setattr__(self, "key", canonical_json([self.options, self.actions]))
        _environment(self)  # what does not fit is said now

    def _check_rewards(self) -> None:
        if self.rewards is None:
            return
        try:
            low, high = (float(bound) for bound in self.rewards)
        except (TypeError, ValueError):
            low, high = np.nan, np.nan
        if not -np.inf < low <= high < np.inf:
            raise UserError(f"game.rewards is (lowest, highest), both finite, not {shown(self.rewards)}.")
        object.__setattr__(self, "rewards", (low, high))

    @property
    def reward_range(self) -> tuple[float, float]:
        """Lowest and highest reward of one step."""
        return self.rewards or _environment(self).reward_range

    @property
    def restorable(self) -> bool:
        """Whether a state can be stepped again."""
        return _environment(self).restorable

    @property
    def has_success(self) -> bool:
        """Whether matches are won."""
        return _environment(self).has_success

    @property
    def null_ceiling(self) -> float | None:
        """What nobody exceeds in 100 steps who never looks, exact; None where there is no table."""
        return _environment(self).null_ceiling

    @property
    def time_limit(self) -> int | None:
        """After how many steps Gymnasium would cut an episode; the sampler's `max_steps` is what cuts here."""
        return _environment(self).time_limit

    def initial(self, rng: np.random.Generator) -> State:
        """Begin: a start of the table, or an environment that is reset with a drawn seed."""
        return _environment(self).initial(rng)

    def players(self, state: State) -> tuple[int, ...]:
        """Always the one player."""
        return (0,)

    def view(self, state: State, player: int) -> GymnasiumView:
        """The observation."""
        return _environment(self).view(state)

    def legal(self, state: State, player: int) -> Sequence[str] | None:
        """All actions, or those of the mask; None where the environment takes any text."""
        return _environment(self).legal(state)

    def step(self, state: State, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Step the environment, or draw from its table."""
        return _environment(self).step(state, actions, rng)

    def words(self) -> list[str]:
        """The words of all views and actions; of your own descriptions those that play found, and `vocabulary`."""
        return sorted({*_environment(self).words(), *self.vocabulary})

    def __getattr__(self, name: str) -> Any:
        """Exact outcomes, where there is a table."""
        if name not in ("outcomes", "initial_outcomes"):
            raise AttributeError(name)
        environment = _environment(self)
        if not isinstance(environment, TableEnvironment):
            raise AttributeError(name)
        return environment.initial_outcomes if name == "initial_outcomes" else environment.outcomes_of


@lru_cache(maxsize=64)
def _environment(game: Gymnasium) -> TableEnvironment | LiveEnvironment:
    return environment_of(game)


def from_gymnasium(
    env: Any,
    *,
    describe: str | Callable[[Any], str] | None = None,
    actions: Sequence[str] | Mapping[str, Any] | None = None,
    **settings: Any,
) -> Gymnasium:
    """Make a game of an environment of Gymnasium.

    Args:
      env: its id, an environment (which is copied), or a function that makes one.
      describe: a function from an observation to a text, or the name of a built-in description.
      actions: names of the actions in their order, or a table from names to actions.
      settings: further settings of `Gymnasium`.

    Returns:
      The game.

    Raises:
      UserError: there is no such environment, or a setting does not fit it.
    """
    names = {field.name for field in dataclasses.fields(Gymnasium) if field.init}
    for name in settings:
        if name not in names:
            raise UserError(f"from_gymnasium has no setting {shown(name)}; {nearest(name, names)}")
    if hasattr(env, "unwrapped"):
        check_one_environment(env)
    found = registered(env)
    if found is not None:
        env, options = found
        settings["options"] = {**options, **settings.get("options", {})}
    named = dict(actions) if isinstance(actions, Mapping) else None if actions is None else tuple(actions)
    return Gymnasium(env=env, describe=describe, actions=named, **settings)
