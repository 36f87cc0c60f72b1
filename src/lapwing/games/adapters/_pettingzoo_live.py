"""Environments of PettingZoo in the middle of a match, of either interface, as `_replayed` wants them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lapwing.core.errors import GameError
from lapwing.games.adapters._pettingzoo_known import plain
from lapwing.games.adapters._replayed import Moved

# They look whether an action is legal and in its turn, which is so here; each costs as much as a step of a small game.
_CHECKS = ("OrderEnforcingWrapper", "AssertOutOfBoundsWrapper", "TerminateIllegalWrapper")


@dataclass(frozen=True, slots=True)
class Scene:
    """What every seat sees, who moves, and what they may do.

    Attributes:
      seen: the last observation of each seat, as plain data.
      movers: who decides; nobody at the end.
      legal: for each of them the numbers of the actions that its mask allows.
      returns: of each seat so far.
    """

    seen: tuple[Any, ...]
    movers: tuple[int, ...]
    legal: tuple[tuple[int, ...], ...]
    returns: tuple[float, ...]


class _NoChance:
    """Stands in for a generator where nothing is drawn."""

    def integers(self, low: int, high: int) -> int:
        return low


NO_CHANCE: Any = _NoChance()


class _Live:
    """What both interfaces share: the last observations, and the scene that is made of them."""

    def __init__(self, env: Any, *, chance: str) -> None:
        while type(env).__name__ in _CHECKS:
            env = env.env
        self.env = env
        self.agents: Sequence[Any] = list(env.possible_agents)
        self.sizes = {agent: int(env.action_space(agent).n) for agent in self.agents}
        self.chance = chance
        self.seen: list[Any] = []
        self.infos: Mapping[Any, Any] = {}
        self.returns = np.zeros(len(self.agents))

    def _scene(self, movers: Sequence[Any]) -> Scene:
        seats = [self.agents.index(agent) for agent in movers]
        legal = tuple(self._allowed(agent, self.seen[seat]) for agent, seat in zip(movers, seats, strict=True))
        seen = tuple([plain(_without_mask(observation)) for observation in self.seen])
        return Scene(seen, tuple(seats), legal, tuple(self.returns.tolist()))

    def _allowed(self, agent: Any, observation: Any) -> tuple[int, ...]:
        """The numbers of the actions that a mask allows; all, if there is none or it allows none."""
        mask = observation.get("action_mask") if isinstance(observation, dict) else None
        if mask is None:
            mask = (self.infos.get(agent) or {}).get("action_mask")
        found = () if mask is None else tuple(np.flatnonzero(mask).tolist())
        return found or tuple(range(self.sizes[agent]))

    def _numbered(self, agent: Any, number: int) -> int:
        return int(getattr(self.env.action_space(agent), "start", 0)) + number

    def _reseed(self, chance: int) -> None:
        """Let the step draw from a seed of its own."""
        if self.chance == "steps":
            self.env.unwrapped.np_random = np.random.default_rng(chance)

    def _moved(self, scene: Scene, reward: np.ndarray) -> Moved:
        paid = {seat: float(value) for seat, value in enumerate(reward)}
        return Moved(scene, paid, terminated=not scene.movers, drew=self.chance == "steps")


class TurnsLive(_Live):
    """An environment whose agents act in turn (AEC)."""

    def begin(self, seed: int) -> Scene:
        """Reset it."""
        self.env.reset(seed=None if self.chance == "none" else seed)
        self.seen = [None] * len(self.agents)
        self.returns = np.zeros(len(self.agents))
        self._settle(np.zeros(len(self.agents)))
        return self._look()

    def advance(self, actions: Mapping[int, int], chance: int) -> Moved:
        """Let the selected agent act."""
        reward = self.follow(actions, chance)
        return self._moved(self._look(), reward)

    def follow(self, actions: Mapping[int, int], chance: int) -> np.ndarray:
        """Let the selected agent act, and only tell what is paid."""
        self._reseed(chance)
        agent = self.env.agent_selection
        self.env.step(self._numbered(agent, actions[self.agents.index(agent)]))
        reward = np.zeros(len(self.agents))
        self._pay(reward)
        if self._is_dead():
            self._see()  # before they leave
            self._settle(reward)
        self.returns = self.returns + reward
        return reward

    def _pay(self, reward: np.ndarray) -> None:
        for agent, value in self.env.rewards.items():
            reward[self.agents.index(agent)] += float(value)

    def _is_dead(self) -> bool:
        """Whether the agent whose turn it is has ended, and only leaves."""
        env = self.env
        if not env.agents:
            return False
        agent = env.agent_selection
        if agent not in env.terminations:
            raise GameError(f"The environment asks {agent}, who has left; it breaks the AEC interface.")
        return bool(env.terminations[agent] or env.truncations[agent])

    def _settle(self, reward: np.ndarray) -> None:
        """Let agents that have ended leave."""
        for _ in range(len(self.agents) + 1):
            if not self._is_dead():
                return
            self.env.step(None)
            self._pay(reward)
        raise GameError("An agent that has ended was asked again and again; the environment breaks the AEC interface.")

    def _see(self) -> None:
        env = self.env
        live = env.agents
        for seat, agent in enumerate(self.agents):
            if agent in live or self.seen[seat] is None:
                self.seen[seat] = env.observe(agent)
        self.infos = {agent: env.infos.get(agent) for agent in live}

    def _look(self) -> Scene:
        self._see()
        return self._scene([self.env.agent_selection] if self.env.agents else [])


class TogetherLive(_Live):
    """An environment whose agents act at once (parallel)."""

    def begin(self, seed: int) -> Scene:
        """Reset it."""
        observations, self.infos = self.env.reset(seed=None if self.chance == "none" else seed)
        self.seen = [observations.get(agent) for agent in self.agents]
        self.returns = np.zeros(len(self.agents))
        return self._scene(list(self.env.agents))

    def advance(self, actions: Mapping[int, int], chance: int) -> Moved:
        """Let all live agents act."""
        self._reseed(chance)
        chosen = {self.agents[seat]: self._numbered(self.agents[seat], number) for seat, number in actions.items()}
        observations, rewards, _, _, self.infos = self.env.step(chosen)
        for agent, observation in observations.items():
            self.seen[self.agents.index(agent)] = observation
        reward = np.zeros(len(self.agents))
        for agent, value in rewards.items():
            reward[self.agents.index(agent)] += float(value)
        self.returns = self.returns + reward
        return self._moved(self._scene([agent for agent in self.agents if agent in self.env.agents]), reward)


def _without_mask(observation: Any) -> Any:
    """The observation itself, where a dictionary holds it beside its mask."""
    if not isinstance(observation, dict) or "action_mask" not in observation:
        return observation
    rest = {name: value for name, value in observation.items() if name != "action_mask"}
    return rest["observation"] if list(rest) == ["observation"] else rest
