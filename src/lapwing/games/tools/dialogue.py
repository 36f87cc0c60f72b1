"""The game of a tool-using dialogue: a task, a few tool calls, one answer."""

import abc
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from lapwing.core.errors import GameError, UserError
from lapwing.core.storage import canonical_json
from lapwing.core.types import Answer, Malformed, ToolCall, ToolResult, Transition
from lapwing.games.tools.tool_policy import ToolPolicy
from lapwing.games.tools.toolbox import CallPolicy, Toolbox, Verdict

Reply = ToolCall | Answer | Malformed


@dataclass(frozen=True, slots=True)
class Turn:
    """A reply of the agent, and what the tool said; an answer, and a call that came too late, have no result."""

    action: Reply
    result: ToolResult | None


@dataclass(frozen=True, slots=True)
class ToolState:
    """The task, everything that was said since, and the rules that the calls are under.

    Attributes:
      task: what the dialogue is about; hashable.
      turns: the replies so far with their results.
      policy: which calls are allowed; None allows all. During an episode it only becomes narrower.
    """

    task: Any
    turns: tuple[Turn, ...] = ()
    policy: ToolPolicy | None = None


@dataclass(frozen=True, slots=True)
class ToolView:
    """What the agent knows.

    Attributes:
      question: the task in words.
      tools: the definition of each tool as JSON, as chat templates take it.
      turns: the replies so far with their results.
      calls_left: how many more calls get a result; at 0 the next reply has to be the answer.
    """

    question: str
    tools: tuple[str, ...]
    turns: tuple[Turn, ...]
    calls_left: int


class ToolGame(abc.ABC):
    """A dialogue with tools; a subclass is a frozen dataclass that says what the tasks are and what they pay.

    An episode is up to `max_turns` replies that are followed by a tool result, and one last reply for the answer. A
    call runs the tool; its result, with a status flag, is part of the next view. A reply that cannot be read uses up
    a turn and gets an error result. An answer ends the episode, and so does any last reply.

    A call runs if the rules of the episode allow it, and those of the toolbox too if it has its own. The rules of the
    episode begin as `policy` and become narrower by `narrow`; anything wider is refused.

    Reward: `turn_parts` and `final_parts` give named numbers, and `turn_weights` and `outcome_weights` what one
    unit of each pays. `turn_parts` are totals over the tool turns so far: a step is paid by how much it moved them,
    so that the payments of an episode add up to the weighted totals. `final_parts` are judged at the end and make up
    the outcome. Parts without a weight are logged and pay nothing.
    """

    num_players: ClassVar[int] = 1
    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = True
    PRODUCES: ClassVar[tuple[str, ...]] = ("tool_calls", "tool_cost", "answer_key")

    max_turns: int

    @property
    @abc.abstractmethod
    def toolbox(self) -> Toolbox:
        """The tools."""

    @property
    def policy(self) -> ToolPolicy | None:
        """Which calls are allowed when an episode begins; None allows all."""
        return None

    @abc.abstractmethod
    def draw_task(self, rng: np.random.Generator) -> Any:
        """Draw the task of an episode."""

    @abc.abstractmethod
    def question(self, task: Any) -> str:
        """The task in words."""

    @abc.abstractmethod
    def turn_parts(self, task: Any, turns: Sequence[Turn]) -> Mapping[str, float]:
        """Totals over the tool turns so far, by name; without turns all are 0."""

    @abc.abstractmethod
    def final_parts(self, task: Any, turns: Sequence[Turn]) -> Mapping[str, float]:
        """What is judged at the end, by name, from all turns, the last reply included."""

    @abc.abstractmethod
    def succeeded(self, task: Any, turns: Sequence[Turn]) -> bool:
        """Whether the task is done, judged at the end."""

    @property
    @abc.abstractmethod
    def turn_weights(self) -> Mapping[str, float]:
        """Reward for one unit of each part of the turns."""

    @property
    @abc.abstractmethod
    def outcome_weights(self) -> Mapping[str, float]:
        """Reward for one unit of each part of the outcome."""

    def narrow(self, state: ToolState) -> ToolPolicy | None:
        """The rules after a turn: `state.policy`, a `state.policy.narrowed(…)`, or any rules where there are none."""
        return state.policy

    def right_answer(self, task: Any) -> str:
        """What a person is told at the end; empty where a task has no answer that could be told."""
        return ""

    @property
    def reward_range(self) -> tuple[float, float]:
        """Bounds that hold for parts whose totals stay within [−1, 1] and change by at most 1 in a turn."""
        most = float(sum(abs(weight) for weight in self.turn_weights.values()))
        return -most, most

    @cached_property
    def _definitions(self) -> tuple[str, ...]:
        # In the order in which models were trained to read them: type, name, description, parameters.
        return tuple(json.dumps(definition, ensure_ascii=False) for definition in self.toolbox.definitions)

    def initial(self, rng: np.random.Generator) -> ToolState:
        """Draw a task."""
        return ToolState(self.draw_task(rng), (), self.policy)

    def players(self, state: ToolState) -> tuple[int, ...]:
        """Always the one player."""
        return (0,)

    def view(self, state: ToolState, player: int) -> ToolView:
        """Everything that was said, and the tools."""
        left = max(0, self.max_turns - len(state.turns))
        return ToolView(self.question(state.task), self._definitions, state.turns, left)

    def legal(self, state: ToolState, player: int) -> None:
        """Any reply is a legal action."""
        return

    def malformed(self, reason: str) -> Malformed:
        """What a reply that could not be read stands for."""
        return Malformed(reason)

    def step(self, state: ToolState, actions: Mapping[int, Reply | str], rng: np.random.Generator) -> Transition:
        """Run a call, or judge the answer; a text stands for what a person types, see `typed`."""
        action = actions[0]
        if isinstance(action, str):
            action = typed(action, self.toolbox.names)
        is_last = isinstance(action, Answer) or len(state.turns) >= self.max_turns
        result = None if is_last else self._result(action, state.policy)
        turns = (*state.turns, Turn(action, result))
        after = replace(state, turns=turns)
        if is_last:
            # Who made no call has the parts of the turns all the same, as zeros.
            parts = {**dict.fromkeys(self.turn_parts(state.task, ()), 0.0), **self.final_parts(state.task, turns)}
            weights = self.outcome_weights
            outcome = float(sum(weights.get(name, 0.0) * value for name, value in parts.items()))
            success = bool(self.succeeded(state.task, turns))
            return Transition(
                after, {0: 0.0}, terminated=True, success={0: success}, outcome={0: outcome}, parts=_numbers(parts)
            )
        before = self.turn_parts(state.task, state.turns)
        moved = {n: v - before.get(n, 0.0) for n, v in self.turn_parts(state.task, turns).items()}
        reward = float(sum(self.turn_weights.get(name, 0.0) * value for name, value in moved.items()))
        return Transition(replace(after, policy=self._narrowed(after)), {0: reward}, parts=_numbers(moved))

    def _result(self, action: Reply, policy: ToolPolicy | None) -> ToolResult:
        if isinstance(action, ToolCall):
            own = self.toolbox.policy
            return self.toolbox.call(action, policy if own is None or policy is None else _Both(policy, own))
        assert isinstance(action, Malformed)
        return ToolResult("error", action.reason)

    def _narrowed(self, state: ToolState) -> ToolPolicy | None:
        before, policy = state.policy, self.narrow(state)
        # Layers only ever forbid: more of them allow no more.
        if before is not None and (policy is None or policy.layers[: len(before.layers)] != before.layers):
            raise GameError(
                f"{type(self).__name__}.narrow returned other rules than those of the episode; return state.policy, or "
                "state.policy.narrowed(…)."
            )
        return policy


@dataclass(frozen=True, slots=True)
class _Both:
    """Two policies that both have to allow a call."""

    first: CallPolicy
    second: CallPolicy

    def decide(self, name: str, arguments: dict[str, Any]) -> Verdict:
        verdict = self.first.decide(name, arguments)
        return self.second.decide(name, arguments) if verdict.allowed is True else verdict


def typed(text: str, tools: Sequence[str]) -> Reply:
    """The action that a text stands for when a person types it.

        answer zu ve                   an answer
        search ka lo mi home           a call with one bare argument
        search {"query": "ka lo mi"}   a call with its arguments as JSON
        now                            a call without arguments

    Args:
      text: what was typed.
      tools: the names of the tools.
    """
    first, *others = text.split(maxsplit=1)[:2] or [""]
    rest = others[0].strip() if others else ""
    if first == "answer" and rest:
        return Answer(rest)
    if first in tools:
        return ToolCall(first, rest if rest.startswith("{") else canonical_json(rest) if rest else "{}")
    known = ", ".join(f"'{name} …'" for name in tools)
    return Malformed(f"begin with {known} or 'answer …'")


def calls(turns: Sequence[Turn]) -> list[ToolResult]:
    """The results of the tool calls among some turns; unreadable replies called nothing."""
    return [turn.result for turn in turns if isinstance(turn.action, ToolCall) and turn.result is not None]


def final_answer(turns: Sequence[Turn]) -> str | None:
    """The answer that an episode ended with; None if it ended with another reply, or has not ended."""
    last = turns[-1].action if turns else None
    return last.text if isinstance(last, Answer) else None


def check_turns(max_turns: int) -> None:
    """Refuse a number of tool turns that no dialogue can have.

    Raises:
      UserError: it is negative.
    """
    if max_turns < 0:
        raise UserError(f"game.max_turns is a number of tool calls of at least 0, not {max_turns}.")


def _numbers(parts: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in parts.items()}
