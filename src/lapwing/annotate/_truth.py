"""The exact solution of the game that a language agent plays, and where the steps of a batch stand in it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lapwing.annotate._action_distribution import ActionDistribution
from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import LapwingError, UserError
from lapwing.core.protocols import Game, Policy
from lapwing.core.storage import key_of
from lapwing.core.types import State
from lapwing.policies.agent import InvalidRule
from lapwing.policies.opponents import exact_opponents
from lapwing.tabular.clock import steps_between_decisions
from lapwing.tabular.enumerate import TabularGame, enumerate_game
from lapwing.tabular.solve import InvalidReplies, Solution, solve


@dataclass(frozen=True)
class Situation:
    """What is played, by whom and under which rules.

    Attributes:
      agent: the language agent in seat 0.
      game: what is played.
      invalid: what happens to its invalid replies.
      max_steps: steps of the game after which a match is cut.
      opponents: the policies of the other seats.
      starts: the states that the matches played last began in.
    """

    agent: Any
    game: Game
    invalid: InvalidRule
    max_steps: int
    opponents: Mapping[int, Policy] = field(default_factory=dict)
    starts: Callable[[], Sequence[State]] = tuple


class Places:
    """The states of an enumerated game by what is seen in them, V views, and the steps of batches found among them.

    Attributes:
      table: the enumerated game.
      deciding: states in which seat 0 decides.
      view_of_state: [S] number of the view of each of them, −1 elsewhere.
      views, legal: the different views, and what is legal there.
      hides: whether two states look the same.
      invalid: what an invalid reply does.
    """

    def __init__(self, situation: Situation, starts: Sequence[State], *, max_states: int) -> None:
        """Enumerate the game from the starts.

        Args:
          situation: what is played; of its agent nothing is read.
          starts: all equally likely; one given twice counts twice.
          max_states: more states than this are refused.

        Raises:
          UserError: the game cannot be enumerated, or its time cannot be told from its decisions.
        """
        self.situation = situation
        self.table: TabularGame = enumerate_game(
            situation.game, starts, opponents=exact_opponents(situation.opponents), max_states=max_states
        )
        self.deciding = np.flatnonzero(self.table.decides)
        self.invalid = _invalid_replies(situation.invalid, self.table)
        offset, duration = steps_between_decisions(self.table)
        self._view_of_key: dict[int, int] = {}
        self.view_of_state = np.full(self.table.num_states, -1, dtype=np.int64)
        self.views: list[Any] = []
        first: list[int] = []
        for state in self.deciding.tolist():
            view = situation.game.view(self.table.states[state], 0)
            number = self._view_of_key.setdefault(key_of(view), len(first))
            self.view_of_state[state] = number
            if number == len(first):
                first.append(state)
                self.views.append(view)
            same = first[number]
            times = (offset[same], duration[same]) == (offset[state], duration[state])
            if self.table.legal[same] != self.table.legal[state] or not times:
                raise UserError(_hides(situation.game, view))
        self.legal = [self.table.legal[state] for state in first]
        self._first = np.array(first, dtype=np.int64)
        self._offset, self._duration = offset[self._first], duration[self._first]
        self.hides = len(first) < len(self.deciding)

    @property
    def state_of_view(self) -> np.ndarray:
        """[V] the state behind each view.

        Raises:
          LapwingError: two states look the same.
        """
        if self.hides:
            raise LapwingError("Some views of this game belong to several states.")
        return self._first

    def policy(self, of_views: np.ndarray) -> np.ndarray:
        """[S, A + 1] from the probabilities in each view, [V, A + 1]."""
        policy = np.zeros((self.table.num_states, self.table.num_actions + 1))
        policy[self.deciding] = of_views[self.view_of_state[self.deciding]]
        return policy

    def locate(self, batch: EpisodeBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Where every step stands: view, steps left, retries used, and the reply's action, int64 [N] each.

        Raises:
          LapwingError: a step is of another seat or in a state that cannot be reached from the starts.
        """
        if (batch.player != 0).any():
            raise LapwingError("Exact advantages are those of seat 0; the batch holds other seats too.")
        keys, inverse = np.unique(batch.view_key, return_inverse=True)
        numbers = np.array([self._view_of_key.get(key, -1) for key in keys.tolist()], dtype=np.int64)
        if (numbers < 0).any():
            raise LapwingError("A step was played in a state that cannot be reached from the starts of its matches.")
        view = numbers[inverse.reshape(-1)]
        level, advances = _retries(batch, self.invalid)
        passed = np.where(advances, self._duration[view], 0)
        before = np.cumsum(passed) - passed
        begin = batch.step_splits[:-1]
        time = before + (self._offset[view[begin]] - before[begin])[batch.episode_of_step]
        left = self.situation.max_steps - time
        if (left < 1).any():
            raise LapwingError("An episode has more steps than max_steps allows; was it played under another limit?")
        return view, left, level, self._actions(batch, view)

    def _actions(self, batch: EpisodeBatch, view: np.ndarray) -> np.ndarray:
        """The action of each reply among the legal ones; A for an invalid reply."""
        keys, inverse = np.unique(batch.action_key, return_inverse=True)
        pair, back = np.unique(view * len(keys) + inverse.reshape(-1), return_inverse=True)
        found = np.empty(len(pair), dtype=np.int64)
        at_key = zip((pair // len(keys)).tolist(), keys[pair % len(keys)].tolist(), strict=True)
        for number, (at, key) in enumerate(at_key):
            names = [key_of(action) for action in self.legal[at]]
            found[number] = names.index(key) if key in names else self.table.num_actions
        return np.where(batch.valid, found[back.reshape(-1)], self.table.num_actions)


class Solved:
    """The exact solution of an enumerated game for a policy, by view.

    Attributes:
      solution: by state.
      advantages: [L, H+1, V, A+1] by view, steps left and retries used; an invalid reply comes last.
      gradient_weights: [V, A+1] the factor of ∇ log π(a | view) in the gradient of the expected return.
    """

    def __init__(self, places: Places, of_views: np.ndarray) -> None:
        """Solve.

        Args:
          places: the enumerated game.
          of_views: the policy, [V, A + 1], an invalid reply last.

        Raises:
          UserError: two states look the same and the same reply has another advantage in one than in the other.
        """
        self.places = places
        self.policy = of_views
        self.solution: Solution = solve(
            places.table, places.policy(of_views), places.situation.max_steps, invalid=places.invalid
        )
        self.advantages = self._by_view()
        weights = self.solution.gradient_weights[places.deciding]
        self.gradient_weights = np.zeros_like(of_views)
        np.add.at(self.gradient_weights, places.view_of_state[places.deciding], weights)

    def _by_view(self) -> np.ndarray:
        places = self.places
        of_states = self.solution.advantages[:, :, places.deciding]
        if not places.hides:
            return of_states
        # What is hidden may change the value, as a reward that is still owed does, as long as it changes no advantage.
        number = places.view_of_state[places.deciding]
        reached = np.zeros(of_states.shape[:3])
        reached[:, 1:] = self.solution.visits[:, ::-1, places.deciding]
        order = np.argsort(number, kind="stable")
        begins = np.searchsorted(number[order], np.arange(len(places.views)))
        total = np.add.reduceat((reached[..., None] * of_states)[:, :, order], begins, axis=2)
        mass = np.add.reduceat(reached[:, :, order], begins, axis=2)
        found = total / np.maximum(mass, 1e-300)[..., None]
        gap = np.abs(of_states - found[:, :, number]) * (reached > 0)[..., None]
        if gap.max(initial=0.0) > 1e-8:
            state = int(np.argmax(gap.max(axis=(0, 1, 3))))
            raise UserError(_hides(places.situation.game, places.views[number[state]]))
        return found

    def advantage(self, batch: EpisodeBatch) -> np.ndarray:
        """The exact advantage of every step's reply, float64 [N], in units of the training reward."""
        view, left, level, action = self.places.locate(batch)
        return self.advantages[level, left, view, action]


class Truth(Solved):
    """The exact solution under the model's current weights."""

    def __init__(self, model: Any, places: Places) -> None:
        """Read the model's action distribution at every view and solve.

        Args:
          model: the causal language model that the agent samples from.
          places: the enumerated game.
        """
        agent = places.situation.agent
        check_direct(
            agent.parser,
            agent.context,
            taught=agent.teacher is not None,
            greedy=getattr(agent.generator, "greedy", False),
        )
        self.distribution = ActionDistribution(model, agent)
        super().__init__(places, self.distribution.probabilities(places.views, places.legal, places.table.num_actions))


def check_hidden(places: Places) -> None:
    """Refuse a game where what is hidden matters, tried with all legal actions equally likely.

    Raises:
      UserError: two states look the same and the same reply has another advantage in one than in the other.
    """
    if places.hides:
        uniform = np.zeros((len(places.views), places.table.num_actions + 1))
        for row, legal in zip(uniform, places.legal, strict=True):
            row[: len(legal)] = 1.0 / len(legal)
        Solved(places, uniform)


def _hides(game: Any, view: Any) -> str:
    return (
        f"{type(game).__name__} hides a part of its state that matters: two different states look the same to the "
        f"player, as {view}, and the same reply is not worth the same in both. The exact answer needs views that tell "
        "such states apart."
    )


def check_direct(parser: Any, context: Any, *, taught: bool = False, greedy: bool = False) -> None:
    """Refuse agents whose decisions are no function of the state, or cannot be read off the model.

    Args:
      parser, context: the agent's.
      taught: whether a teacher decides in its place.
      greedy: whether it takes the most probable token instead of sampling.

    Raises:
      UserError: the sentence says why.
    """
    if getattr(parser, "think", False) or getattr(parser, "plan", False):
        raise UserError(
            "The exact answer needs direct replies: where the policy's parser thinks or plans first, an action has too "
            "many wordings for its probability to be read off the model; choose parser = { name = 'bare' }."
        )
    if context.keeps_memory:
        raise UserError(
            "The exact answer needs a policy that reads the current state only; "
            "choose policy.context = { name = 'state_only' }."
        )
    if taught:
        raise UserError("The exact answer is that of the model, but this stage is played by a teacher.")
    if greedy:
        raise UserError("The exact answer is that of sampled replies; leave generation.greedy out.")


def _invalid_replies(rule: InvalidRule, table: TabularGame) -> InvalidReplies:
    default = np.zeros(table.num_states, dtype=np.int64)
    if rule.rule in ("default", "retry"):
        for state in np.flatnonzero(table.decides).tolist():
            legal = table.legal[state]
            default[state] = legal.index(rule.action(legal, 0))
    return InvalidReplies(rule=rule.rule, penalty=rule.penalty, default=default, retries=rule.retries)


def _retries(batch: EpisodeBatch, invalid: InvalidReplies) -> tuple[np.ndarray, np.ndarray]:
    """How many retries each decision had used, int64 [N], and whether the step moved the game on, bool [N]."""
    if invalid.levels == 1:
        return np.zeros(batch.num_steps, dtype=np.int64), np.ones(batch.num_steps, dtype=bool)
    at = np.arange(batch.num_steps)
    # A run of invalid replies begins after the last valid one, or with the episode.
    after_valid = np.zeros(batch.num_steps, dtype=np.int64)
    after_valid[1:] = np.where(batch.valid[:-1], at[1:], 0)
    begin = np.maximum(np.maximum.accumulate(after_valid), batch.step_splits[:-1][batch.episode_of_step])
    level = (at - begin) % invalid.levels
    return level, batch.valid | (level == invalid.levels - 1)
