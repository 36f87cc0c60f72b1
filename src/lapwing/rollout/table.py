"""Play on a table: many matches of an enumerable game at once, a few array operations for each step.

Where a game of one player lists its outcomes, the policy reads only the current view, and a reply is one token, all
that can happen at a state is the same for every match that comes there. It is looked up once; after that a step of
thousands of matches is a draw of tokens and a draw of outcomes. The result is that of `play.play`, bit for bit, given
the same next-token distributions: both take their noise from the same keys.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lapwing.core import rng
from lapwing.core.batch import EpisodeBatch
from lapwing.core.columns import PART_PREFIX
from lapwing.core.protocols import Game
from lapwing.core.ragged import lengths_to_splits, take_segments
from lapwing.core.rollout import LazyEpisodes, Rollout
from lapwing.core.storage import bytes_key
from lapwing.core.types import Action, Decision, Episode, Match, Prompt, State, Step, Transition, View
from lapwing.games.game import has_exact_outcomes, outcomes
from lapwing.policies.agent import Agent, InvalidRule
from lapwing.policies.parsers import Invalid
from lapwing.rollout.play import initial_state, key_of_action, key_of_view

_EMPTY = np.zeros(0, dtype=np.int32)


def fits(policy: Any, matches: Sequence[Match], invalid: InvalidRule) -> bool:
    """Whether these matches can be played on a table by this policy."""
    if not matches or not isinstance(policy, Agent) or policy.teacher is not None or invalid.rule == "retry":
        return False
    generator = policy.generator
    if policy.context.keeps_memory or generator.max_tokens != 1 or not hasattr(generator, "draw_first"):
        return False
    game = matches[0].game
    one_game = all(match.game is game for match in matches)
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
        self.agent = agent
        self.invalid = invalid
        self.index: dict[State, int] = {}
        self.states: list[State] = []
        self.views: list[View] = []
        self.prompts: list[Prompt | None] = []
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
        found = self.index.get(state)
        if found is None:
            found = self.index[state] = len(self.states)
            view = self.game.view(state, 0)
            self.states.append(state)
            self.views.append(view)
            self.prompts.append(None)
            self.view_key.append(key_of_view(view))
            self.context_key.append(0)
        return found

    def prompt(self, number: int) -> Prompt:
        """What the agent reads at a state."""
        found = self.prompts[number]
        if found is None:
            found = self.prompts[number] = self.agent.prompt(self.views[number], None)
            self.context_key.array[number] = bytes_key(found.key)
        return found

    def choice(self, state: int, token: int, drawn: int) -> int:
        """The number of a reply at a state; `drawn` is the legal action that a rule for invalid replies drew, or −1."""
        key = (state, token, drawn)
        found = self._choice_of.get(key)
        if found is None:
            found = self._choice_of[key] = self._add(*key)
        return found

    def _add(self, state: int, token: int, drawn: int) -> int:
        legal = self.game.legal(self.states[state], 0)
        text, parsed = self.agent.read(np.array([token], dtype=np.int32), legal)
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

    def _add_outcomes(self, state: int, executed: Action | None) -> int:
        if executed is None:  # forfeited: the game makes no step
            possible: list[tuple[float, Transition | None]] = [(1.0, None)]
        else:
            possible = list(outcomes(self.game, self.states[state], {0: executed}))
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

    def draws_invalid(self, state: int, token: int) -> int:
        """Of how many legal actions one is drawn in place of this reply; 0 where nothing is drawn."""
        if self.invalid.rule != "random_legal":
            return 0
        found = self._options.get((state, token))
        if found is None:
            found = self._options[state, token] = self._count_options(state, token)
        return found

    def _count_options(self, state: int, token: int) -> int:
        legal = self.game.legal(self.states[state], 0)
        _, parsed = self.agent.read(np.array([token], dtype=np.int32), legal)
        return len(legal) if isinstance(parsed, Invalid) and legal else 0


class _Record(NamedTuple):
    """One step of the lockstep: the matches that were live, and what each did."""

    match: np.ndarray
    state: np.ndarray
    token: np.ndarray
    logprob: np.ndarray
    choice: np.ndarray
    result: np.ndarray


def play_on_table(table: Table, matches: Sequence[Match]) -> Rollout:
    """Play matches to their end.

    Args:
      table: of the matches' game; it grows.
      matches: what to play; `fits` says whether that is possible here.

    Returns:
      The episodes in the order of the matches.
    """
    seats, chances = _keys(matches)
    starts: dict[tuple[int, str, int, int], int] = {}
    state = np.empty(len(matches), dtype=np.int64)
    for i, match in enumerate(matches):
        address = (match.seed, match.split, *match.start_address)
        if address not in starts:
            starts[address] = table.number(initial_state(match))
        state[i] = starts[address]
    left = np.array([match.max_steps for match in matches])
    live = np.arange(len(matches))
    records: list[_Record] = []
    while len(live):
        record = _step(table, live, state[live], rng.fold_many(seats[live], len(records)), chances[live], len(records))
        records.append(record)
        state[live] = table.next_state.array[record.result]
        going = ~table.ended.array[record.result] & (left[live] > len(records))
        live = live[going]
    return _Played(table, matches, records, state).rollout()


def _keys(matches: Sequence[Match]) -> tuple[np.ndarray, np.ndarray]:
    """The keys of each match's replies and of its chance, as `play` has them."""
    prefix: dict[tuple[Any, ...], tuple[int, int]] = {}
    seats = np.empty(len(matches), dtype=np.uint64)
    chances = np.empty(len(matches), dtype=np.uint64)
    shared = np.empty(len(matches), dtype=bool)
    for i, match in enumerate(matches):
        address = (match.seed, match.split, match.iteration, match.group)
        if address not in prefix:
            prefix[address] = (rng.fold(0, "reply", *address), rng.fold(0, "chance", *address))
        seats[i], chances[i] = prefix[address]
        shared[i] = match.share_chance
    member = np.array([match.member for match in matches])
    seats = rng.fold_many(rng.fold_many(seats, member), 0)
    together = rng.fold_many(chances, rng.word_of("shared"))
    return seats, np.where(shared, together, rng.fold_many(chances, member))


def _step(
    table: Table, live: np.ndarray, state: np.ndarray, replies: np.ndarray, chances: np.ndarray, index: int
) -> _Record:
    here, at = np.unique(state, return_inverse=True)
    prompts = [table.prompt(number) for number in here.tolist()]
    generator: Any = table.agent.generator
    token, logprob = generator.draw_first(prompts, at.reshape(-1), replies)
    choice, chosen, back = _choices(table, state, token, replies)
    count = np.array([table.choices[number].count for number in chosen])
    first = np.array([table.choices[number].first for number in chosen])
    result = first[back]
    if (count > 1).any():
        heights = table.heights(chosen)[back]
        u = rng.uniform(rng.fold_many(chances, index))
        passed = (heights <= (u * heights[:, -1])[:, None]).sum(axis=1)
        result = result + np.minimum(passed, count[back] - 1)
    return _Record(live, state, token, logprob, choice, result)


def _choices(
    table: Table, state: np.ndarray, token: np.ndarray, replies: np.ndarray
) -> tuple[np.ndarray, list[int], np.ndarray]:
    """The choice of each match, the different ones, and which of them each match made."""
    pair = state << 32 | token
    different, back = np.unique(pair, return_inverse=True)
    states, tokens = (different >> 32).tolist(), (different & 0xFFFFFFFF).tolist()
    legal = np.array([table.draws_invalid(s, t) for s, t in zip(states, tokens, strict=True)])
    back = back.reshape(-1)
    drawn = np.full(len(state), -1)
    if legal.any():
        options = legal[back]
        noise = rng.fold_many(replies, rng.word_of("invalid"))
        picked = noise % np.maximum(options, 1).astype(np.uint64)
        drawn = np.where(options > 0, picked.astype(np.int64), -1)
        different, back = np.unique(np.stack([pair, drawn]), axis=1, return_inverse=True)
        back = back.reshape(-1)
        states, tokens = (different[0] >> 32).tolist(), (different[0] & 0xFFFFFFFF).tolist()
        picks = different[1].tolist()
    else:
        picks = [-1] * len(states)
    chosen = [table.choice(*key) for key in zip(states, tokens, picks, strict=True)]
    return np.array(chosen)[back], chosen, back


class _Played:
    """The records of all steps, sorted by match."""

    def __init__(self, table: Table, matches: Sequence[Match], records: Sequence[_Record], final: np.ndarray) -> None:
        self.table = table
        self.matches = matches
        self.final = final
        self.version = table.agent.version
        match = np.concatenate([record.match for record in records])
        order = np.argsort(match, kind="stable")
        self.splits = lengths_to_splits(np.bincount(match, minlength=len(matches)))
        self.state, self.token, self.logprob, self.choice, self.result = (
            np.concatenate([getattr(record, name) for record in records])[order]
            for name in ("state", "token", "logprob", "choice", "result")
        )
        self.terminated = table.ended.array[self.result[self.splits[1:] - 1]]

    def rollout(self) -> Rollout:
        return Rollout(self._batch(), LazyEpisodes(self._episode, np.arange(len(self.matches))))

    def _batch(self) -> EpisodeBatch:
        table, splits = self.table, self.splits
        contexts = [_EMPTY if prompt is None else prompt.token for prompt in table.prompts]
        taken, context_splits = take_segments(lengths_to_splits(np.array([len(c) for c in contexts])), self.state)
        final_context, final_splits = self._final_contexts()
        view_key = table.view_key.array
        reward = table.reward.array[self.result]
        return EpisodeBatch(
            step_splits=splits,
            token_splits=np.arange(len(self.token) + 1),
            context_splits=context_splits,
            extends_previous=np.zeros(len(self.token), dtype=bool),
            reward=reward - table.penalty.array[self.choice],
            outcome=np.add.reduceat(table.outcome.array[self.result], splits[:-1]),
            terminated=self.terminated,
            truncated=~self.terminated,
            group=_numbered((m.split, m.iteration, m.group) for m in self.matches),
            match=_numbered((m.split, m.iteration, m.group, m.member) for m in self.matches),
            player=np.zeros(len(self.matches), dtype=np.int64),
            policy_version=np.full(len(self.token), self.version),
            token=self.token,
            context_token=np.concatenate(contexts)[taken],
            sampler_logprob=self.logprob,
            behavior_logprob=self.logprob.copy(),
            final_context_splits=final_splits,
            final_context_token=final_context,
            view_key=view_key[self.state],
            action_key=table.action_key.array[self.choice],
            next_view_key=view_key[table.next_state.array[self.result]],
            valid=table.is_valid.array[self.choice],
            extra={
                **self._parts(),
                "context_key": table.context_key.array[self.state],
                "domain_reward": reward,
                "success": table.success.array[self.result[splits[1:] - 1]],
            },
        )

    def _parts(self) -> dict[str, np.ndarray]:
        if not self.table.part_names:
            return {}
        used, back = np.unique(self.result, return_inverse=True)
        found = [self.table.transitions[number] for number in used.tolist()]
        parts = [{} if transition is None else transition.parts for transition in found]
        names = sorted({name for part in parts for name in part})
        return {
            PART_PREFIX + name: np.array([part.get(name, 0.0) for part in parts])[back.reshape(-1)] for name in names
        }

    def _final_contexts(self) -> tuple[np.ndarray, np.ndarray]:
        cut = np.flatnonzero(~self.terminated)
        finals = [_EMPTY] * len(self.matches)
        for i in cut.tolist():
            finals[i] = self.table.prompt(int(self.final[i])).token
        return np.concatenate(finals), lengths_to_splits(np.array([len(final) for final in finals]))

    def _episode(self, number: int) -> Episode:
        table = self.table
        at = slice(int(self.splits[number]), int(self.splits[number + 1]))
        terminated, final = bool(self.terminated[number]), int(self.final[number])
        success = float(table.success.array[self.result[at.stop - 1]])
        return Episode(
            match=self.matches[number],
            player=0,
            steps=[self._object(n) for n in range(at.start, at.stop)],
            terminated=terminated,
            truncated=not terminated,
            outcome=float(table.outcome.array[self.result[at]].sum()),
            success=None if np.isnan(success) else bool(success),
            final_context=None if terminated else table.prompt(final).token,
            final_view=table.views[final],
            policy_version=self.version,
        )

    def _object(self, n: int) -> Step:
        table = self.table
        state, result, number = int(self.state[n]), int(self.result[n]), int(self.choice[n])
        choice, transition = table.choices[number], table.transitions[result]
        reward = float(table.reward.array[result])
        generator: Any = table.agent.generator
        token = self.token[n : n + 1]
        decision = Decision(
            action=choice.action,
            valid=choice.valid,
            text=choice.text,
            context=table.prompt(state).token,
            token=token,
            logprob=self.logprob[n : n + 1],
            reason=choice.reason,
            stop_reason=generator.stop_reason(token.tolist()),
        )
        return Step(
            decision=decision,
            action=choice.executed,
            view=table.views[state],
            view_key=int(table.view_key.array[state]),
            action_key=int(table.action_key.array[number]),
            next_view_key=int(table.view_key.array[table.next_state.array[result]]),
            reward=reward - float(table.penalty.array[number]),
            domain_reward=reward,
            parts={} if transition is None else transition.parts,
        )


def _numbered(names: Any) -> np.ndarray:
    """Numbers in the order of appearance."""
    found: dict[Any, int] = {}
    return np.array([found.setdefault(name, len(found)) for name in names])
