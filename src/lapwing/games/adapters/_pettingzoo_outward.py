"""Games as environments of PettingZoo; the classes get their base, and the spaces, from whoever has imported them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lapwing.core.errors import GameError, UserError
from lapwing.core.rng import fold, generator
from lapwing.core.storage import canonical_json
from lapwing.core.types import Action, View

Encode = Callable[[View], np.ndarray]
# Random matches in which the actions of a game are looked for, and how long they are.
_MATCHES, _STEPS = 100, 200


class Outward:
    """What both interfaces share: agents, spaces, the match that is played."""

    def __init__(self, game: Any, spaces: Any, *, actions: Sequence[str], encode: Encode, max_steps: int, seed: int):
        self.game = game
        self.max_steps = max_steps
        self.render_mode = "ansi"
        self.possible_agents = [f"player_{seat}" for seat in range(game.num_players)]
        self.agents: list[str] = []
        self.metadata = {"render_modes": ["ansi"], "name": f"lapwing_{type(game).__name__}", "is_parallelizable": True}
        self.action_names = list(actions)
        self._encode = encode
        self._seed = seed
        self._resets = 0
        shown = encode(game.view(game.initial(generator(seed, "space")), 0))
        bounds = (0, 255) if shown.dtype == np.uint8 else (-np.inf, np.inf)
        self._observation_spaces = {
            agent: spaces.Dict(
                {
                    "observation": spaces.Box(*bounds, shape=shown.shape, dtype=shown.dtype.type),
                    "action_mask": spaces.Box(0, 1, shape=(len(actions),), dtype=np.int8),
                }
            )
            for agent in self.possible_agents
        }
        self._action_spaces = {agent: spaces.Discrete(len(actions)) for agent in self.possible_agents}

    def observation_space(self, agent: str) -> Any:
        """An array and the mask of the legal actions."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        """The numbers of `action_names`."""
        return self._action_spaces[agent]

    def render(self) -> str:
        """What every seat sees, as text."""
        return "\n".join(f"{agent}: {canonical_json(self._view(agent))}" for agent in self.possible_agents)

    def close(self) -> None:
        """There is nothing to close."""

    def _begin(self, seed: int | None) -> None:
        self._resets += 1
        key = fold(self._seed, self._resets) if seed is None else seed
        self._chance = ("chance", key)
        self._state = self.game.initial(generator(*self._chance, "initial"))
        self._steps = 0
        self.agents = list(self.possible_agents)

    def _seat(self, agent: str) -> int:
        return self.possible_agents.index(agent)

    def _view(self, agent: str) -> View:
        return self.game.view(self._state, self._seat(agent))

    def _observation(self, agent: str, asked: bool) -> dict[str, np.ndarray]:
        mask = np.zeros(len(self.action_names), dtype=np.int8)
        if asked:
            legal = self.game.legal(self._state, self._seat(agent))
            names = set(self.action_names) if legal is None else {str(action) for action in legal}
            mask[:] = [name in names for name in self.action_names]
            if not mask.any():
                raise GameError(f"None of the actions {sorted(names)} is among {self.action_names}; pass actions=….")
        return {"observation": self._encode(self._view(agent)), "action_mask": mask}

    def _action(self, agent: str, number: int) -> Action:
        name = self.action_names[int(number)]
        legal = self.game.legal(self._state, self._seat(agent))
        if legal is None:
            return name
        for action in legal:
            if str(action) == name:
                return action
        raise GameError(f"'{name}' is not legal for {agent} now; choose by the action mask.")

    def _play(self, actions: Mapping[int, Action]) -> tuple[dict[str, float], bool, bool]:
        """Step the game: what each agent is paid, and whether the match has ended or is cut off."""
        transition = self.game.step(self._state, actions, generator(*self._chance, self._steps))
        self._state = transition.state
        self._steps += 1
        outcome = transition.outcome or {}
        paid = {a: transition.reward[s] + outcome.get(s, 0.0) for s, a in enumerate(self.possible_agents)}
        return paid, transition.terminated, not transition.terminated and self._steps >= self.max_steps


class TurnsOutward(Outward):
    """Agents are asked one after the other; where several decide at once, the game goes on when all have chosen."""

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        """Begin a match."""
        self._begin(seed)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}
        self._chosen: dict[int, Action] = {}
        self._is_over = False
        self._select()

    def observe(self, agent: str) -> dict[str, np.ndarray]:
        """What an agent sees, and what it may do if it is asked now."""
        return self._observation(agent, not self._is_over and agent == self.agent_selection)

    def step(self, action: Any) -> None:
        """The selected agent chooses."""
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)  # pyright: ignore[reportAttributeAccessIssue]
            return
        self._cumulative_rewards[agent] = 0.0
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._chosen[self._seat(agent)] = self._action(agent, action)
        if len(self._chosen) == len(self._deciding):
            self.rewards, ended, cut = self._play(self._chosen)
            self._chosen = {}
            self._is_over = ended or cut
            self.terminations = dict.fromkeys(self.agents, ended)
            self.truncations = dict.fromkeys(self.agents, cut)
        for each, paid in self.rewards.items():
            self._cumulative_rewards[each] += paid
        self._select()

    def _select(self) -> None:
        self._deciding = () if self._is_over else self.game.players(self._state)
        waiting = [seat for seat in self._deciding if seat not in self._chosen]
        self.agent_selection = self.possible_agents[waiting[0] if waiting else 0]


class TogetherOutward(Outward):
    """All agents act in every step; what an agent does who is not asked counts for nothing, and its mask is empty."""

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin a match."""
        self._begin(seed)
        return self._seen(), {agent: {} for agent in self.agents}

    def step(self, actions: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """Let all who are asked act."""
        asked = self.game.players(self._state)
        agents = list(self.agents)
        paid, ended, cut = self._play({s: self._action(self.possible_agents[s], actions[agents[s]]) for s in asked})
        if ended or cut:
            self.agents = []
        seen = self._seen(agents, over=ended or cut)
        over = (dict.fromkeys(agents, ended), dict.fromkeys(agents, cut))
        return seen, paid, *over, {agent: {} for agent in agents}

    def _seen(self, agents: Sequence[str] | None = None, *, over: bool = False) -> dict[str, Any]:
        asked = () if over else self.game.players(self._state)
        return {a: self._observation(a, self._seat(a) in asked) for a in (agents or self.agents)}


def as_bytes(size: int) -> Encode:
    """The default encoding: a view's canonical JSON in UTF-8, filled up with zeros to `size` bytes."""

    def encode(view: View) -> np.ndarray:
        text = canonical_json(view).encode("utf-8")
        if len(text) > size:
            raise UserError(f"A view takes {len(text)} bytes, more than {size}; pass a larger size, or encode=….")
        found = np.zeros(size, dtype=np.uint8)
        found[: len(text)] = np.frombuffer(text, dtype=np.uint8)
        return found

    return encode


def actions_of(game: Any) -> list[str]:
    """The actions that random matches of a game offer, in the order in which they are met.

    Raises:
      UserError: a player may say anything.
    """
    found: dict[str, None] = {}
    for number in range(_MATCHES):
        rng = generator("actions", number)
        state, known = game.initial(rng), len(found)
        for _ in range(_STEPS):
            chosen = {}
            for player in game.players(state):
                legal = game.legal(state, player)
                if legal is None:
                    raise UserError(f"{type(game).__name__} takes any text; pass the list of its actions.")
                found.update(dict.fromkeys(str(action) for action in legal))
                chosen[player] = legal[int(rng.integers(len(legal)))]
            transition = game.step(state, chosen, rng)
            state = transition.state
            if transition.terminated:
                break
        if number > 20 and len(found) == known:
            break
    return list(found)
