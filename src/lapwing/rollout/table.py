"""What can happen at the states of an enumerable game, looked up once for one agent."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lapwing.core.errors import GameError
from lapwing.core.protocols import Game
from lapwing.core.storage import bytes_key
from lapwing.core.types import Action, Match, Prompt, State, Transition, View
from lapwing.games.game import has_exact_outcomes, outcomes
from lapwing.policies.agent import Agent, InvalidRule
from lapwing.policies.parsers import Invalid
from lapwing.rollout._transitions import bounds_of, check_transition
from lapwing.rollout.arena import GameFault, from_game, key_of_action, key_of_view

_EMPTY = np.zeros(0, dtype=np.int32)


def fits(policy: Any, matches: Sequence[Match], invalid: InvalidRule) -> bool:
    """Whether these matches can be played on a table by this policy."""
    if not matches or not isinstance(policy, Agent) or policy.teacher is not None or invalid.rule == "retry":
        return False
    if (
        policy.context.keeps_memory
        or policy.judges_replies
        or not getattr(policy.generator, "remembers_replies", False)
    ):
        return False
    game = matches[0].game
    # The prompts of a table hold no hints, and its replies are drawn among all.
    one_game = all(match.game is game and match.guidance is None for match in matches)
    return one_game and game.num_players == 1 and has_exact_outcomes(game) and game.restorable


class _Choice(NamedTuple):
    """A reply at a state: what it means and where its outcomes stand."""

    valid: bool
    action: Action | None
    executed: Action | None
    text: str
    reason: str
    first: int
    count: int


class _Column:
    """A growing array."""

    def __init__(self, kind: Any) -> None:
        self._values = np.zeros(256, dtype=kind)
        self._length = 0

    def append(self, value: Any) -> None:
        if self._length == len(self._values):
            self._values = np.concatenate([self._values, np.zeros_like(self._values)])
        self._values[self._length] = value
        self._length += 1

    @property
    def array(self) -> np.ndarray:
        return self._values[: self._length]


class Table:
    """What is known of the states of one game, for one agent and one rule for invalid replies."""

    def __init__(self, game: Game, agent: Agent, invalid: InvalidRule) -> None:
        """Begin with nothing."""
        self.game: Any = game
        with from_game():
            self.bounds = bounds_of(game)
        self.agent = agent
        self.invalid = invalid
        self.index: dict[State, int] = {}
        self.states: list[State] = []
        self.views: list[View] = []
        self.prompts: list[Prompt | None] = []
        self.replies: list[np.ndarray] = []
        self._reply_of: dict[bytes, int] = {}
        self.view_key = _Column(np.uint64)
        self.context_key = _Column(np.uint64)
        self.choices: list[_Choice] = []
        self.action_key = _Column(np.uint64)
        self.penalty = _Column(np.float64)
        self.is_valid = _Column(np.bool_)
        self.transitions: list[Transition | None] = []
        self.probability: list[float] = []
        self.next_state = _Column(np.int64)
        self.ended = _Column(np.bool_)
        self.reward = _Column(np.float64)
        self.outcome = _Column(np.float64)
        self.success = _Column(np.float64)
        self.part_names: set[str] = set()
        self._choice_of: dict[tuple[int, int, int], int] = {}
        self._sums: list[np.ndarray] = []
        self._options: dict[tuple[int, int], int] = {}

    def number(self, state: State) -> int:
        """The number of a state."""
        try:
            found = self.index.get(state)
        except TypeError as error:
            raise GameFault from error  # a state that cannot be a key
        if found is None:
            with from_game():
                view = self.game.view(state, 0)
                view_key = key_of_view(view)
            found = self.index[state] = len(self.states)
            self.states.append(state)
            self.views.append(view)
            self.prompts.append(None)
            self.view_key.append(view_key)
            self.context_key.append(0)
        return found

    def prompt(self, number: int) -> Prompt:
        """What the agent reads at a state."""
        found = self.prompts[number]
        if found is None:
            found = self.prompts[number] = self.agent.prompt(self.views[number], None)
            self.context_key.array[number] = bytes_key(found.key)
        return found

    def reply(self, token: np.ndarray) -> int:
        """The number of a reply, whatever it replies to."""
        key = token.tobytes()
        found = self._reply_of.get(key)
        if found is None:
            found = self._reply_of[key] = len(self.replies)
            self.replies.append(token)
        return found

    def choice(self, state: int, reply: int, drawn: int) -> int:
        """The number of a reply at a state; `drawn` is the legal action that a rule for invalid replies drew, or −1."""
        key = (state, reply, drawn)
        found = self._choice_of.get(key)
        if found is None:
            found = self._choice_of[key] = self._add(*key)
        return found

    def _add(self, state: int, reply: int, drawn: int) -> int:
        legal = self._legal(state)
        text, parsed = self.agent.read(self.replies[reply], legal)
        valid = not isinstance(parsed, Invalid)
        first = len(self.transitions)
        executed: Action | None = parsed
        if not valid:
            if self.invalid.rule == "forfeit":
                executed = None
            elif drawn >= 0:
                executed = legal[drawn]
            else:
                executed = self.invalid.action(legal, 0)
        count = self._add_outcomes(state, executed)
        self._sums.append(np.cumsum(self.probability[first:]))
        reason = "" if valid else parsed.reason
        self.choices.append(_Choice(valid, parsed if valid else None, executed, text, reason, first, count))
        self.action_key.append(key_of_action(parsed) if valid else 0)
        self.penalty.append(0.0 if valid else self.invalid.penalty)
        self.is_valid.append(valid)
        return len(self.choices) - 1

    def _legal(self, state: int) -> Sequence[Action]:
        with from_game():
            legal = self.game.legal(self.states[state], 0)
            if not legal:
                raise GameError("no legal actions")
            return legal

    def _add_outcomes(self, state: int, executed: Action | None) -> int:
        if executed is None:  # forfeited: the game makes no step
            possible: list[tuple[float, Transition | None]] = [(1.0, None)]
        else:
            with from_game():
                possible = list(outcomes(self.game, self.states[state], {0: executed}))
                for _, transition in possible:
                    check_transition(self.game, transition, self.bounds)
        for probability, transition in possible:
            self.transitions.append(transition)
            self.probability.append(probability)
            self.next_state.append(state if transition is None else self.number(transition.state))
            self.ended.append(transition is None or transition.terminated)
            self.reward.append(0.0 if transition is None else transition.reward.get(0, 0.0))
            given = None if transition is None else transition.outcome
            self.outcome.append(0.0 if given is None else given.get(0, 0.0))
            self.success.append(self._success(transition))
            self.part_names |= set() if transition is None else set(transition.parts)
        return len(possible)

    def _success(self, transition: Transition | None) -> float:
        if transition is None:
            return 0.0
        success = None if transition.success is None else transition.success.get(0)
        if success is None:
            return 0.0 if getattr(self.game, "has_success", False) else np.nan
        return float(success)

    def heights(self, choices: Sequence[int]) -> np.ndarray:
        """Running sums of the probabilities of what may come of some choices, [choices, most outcomes].

        Past a choice's last outcome the sum stays what it is.
        """
        width = max(self.choices[number].count for number in choices)
        result = np.empty((len(choices), width))
        for row, number in enumerate(choices):
            choice = self.choices[number]
            sums = self._sums[number]
            result[row, : choice.count] = sums
            result[row, choice.count :] = sums[-1]
        return result

    def draws_invalid(self, state: int, reply: int) -> int:
        """Of how many legal actions one is drawn in place of this reply; 0 where nothing is drawn."""
        if self.invalid.rule != "random_legal":
            return 0
        found = self._options.get((state, reply))
        if found is None:
            found = self._options[state, reply] = self._count_options(state, reply)
        return found

    def _count_options(self, state: int, reply: int) -> int:
        legal = self._legal(state)
        _, parsed = self.agent.read(self.replies[reply], legal)
        return len(legal) if isinstance(parsed, Invalid) and legal else 0
