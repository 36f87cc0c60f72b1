"""Play on a table: many matches of an enumerable game at once, a few array operations for each step.

Where a game of one player lists its outcomes, and the policy reads only the current view, all that can happen at a
state is the same for every match that comes there. It is looked up once; after that a step of thousands of matches is
a draw of replies and a draw of outcomes. The result is that of `play.play`, bit for bit, given
the same next-token distributions: both take their noise from the same keys.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lapwing.core import rng
from lapwing.core.batch import EpisodeBatch
from lapwing.core.columns import PART_PREFIX
from lapwing.core.ragged import distinct, lengths_to_splits, take_segments
from lapwing.core.rollout import LazyEpisodes, Rollout
from lapwing.core.types import Decision, Episode, Match, Step
from lapwing.rollout.arena import from_game, initial_state
from lapwing.rollout.table import Table
from lapwing.rollout.watch import Watch

_EMPTY = np.zeros(0, dtype=np.int32)


def _nothing() -> None:
    pass


class _Record(NamedTuple):
    """One step of the lockstep: the matches that were live, and what each did."""

    match: np.ndarray
    state: np.ndarray
    reply: np.ndarray
    logprob: np.ndarray
    choice: np.ndarray
    result: np.ndarray


def play_on_table(
    table: Table, matches: Sequence[Match], watch: Watch | None = None, announce: Callable[[], None] = _nothing
) -> Rollout:
    """Play matches to their end.

    Args:
      table: of the matches' game; it grows.
      matches: what to play; `fits` says whether that is possible here.
      watch: is told how far play is, and may end it.
      announce: is called once the first replies were drawn, for what had better be computed together.

    Returns:
      The episodes in the order of the matches.

    Raises:
      GameFault: the game failed somewhere; the table is of no use any more.
    """
    watch = Watch() if watch is None else watch
    groups = _groups(matches)
    seats, chances = _keys(matches, groups)
    with from_game():
        starts = [initial_state(match) for match in groups.first]
    start = [table.number(state) for state in starts]
    state = np.array(start)[groups.index]
    left = np.array([match.max_steps for match in matches])
    live = np.arange(len(matches))
    records: list[_Record] = []
    while len(live):
        watch.safe_point()
        watch.enter("play on a table", len(live))
        record = _step(table, live, state[live], rng.fold_many(seats[live], len(records)), chances[live], len(records))
        records.append(record)
        if len(records) == 1:
            announce()
        state[live] = table.next_state.array[record.result]
        going = ~table.ended.array[record.result] & (left[live] > len(records))
        live = live[going]
    return _Played(table, matches, groups, records, state).rollout()


class _Groups(NamedTuple):
    """The first match of each group, and the group of each match, numbered in the order of appearance."""

    first: list[Match]
    index: np.ndarray


def _groups(matches: Sequence[Match]) -> _Groups:
    found: dict[tuple[int, str, int, int], int] = {}
    index = np.array(
        [found.setdefault((m.seed, m.split, m.iteration, m.group), len(found)) for m in matches], dtype=np.int64
    )
    first = np.unique(index, return_index=True)[1]
    return _Groups([matches[i] for i in first.tolist()], index)


def _keys(matches: Sequence[Match], groups: _Groups) -> tuple[np.ndarray, np.ndarray]:
    """The keys of each match's replies and of its chance, as `play` has them."""
    addresses = [(m.seed, m.split, m.iteration, m.group) for m in groups.first]
    seats = np.array([rng.fold(0, "reply", *address) for address in addresses], dtype=np.uint64)[groups.index]
    chances = np.array([rng.fold(0, "chance", *address) for address in addresses], dtype=np.uint64)[groups.index]
    member = np.array([match.member for match in matches])
    shared = np.array([match.share_chance for match in matches])
    seats = rng.fold_many(rng.fold_many(seats, member), 0)
    together = rng.fold_many(chances, rng.word_of("shared"))
    return seats, np.where(shared, together, rng.fold_many(chances, member))


def _step(
    table: Table, live: np.ndarray, state: np.ndarray, replies: np.ndarray, chances: np.ndarray, index: int
) -> _Record:
    here, at = distinct(state)
    prompts = [table.prompt(number) for number in here.tolist()]
    generator: Any = table.agent.generator
    drawn = generator.draw_replies(prompts, at, replies)
    reply = np.array([table.reply(one) for one in drawn.replies])[drawn.reply]
    choice, chosen, back = _choices(table, here, at, reply, replies)
    count = np.array([table.choices[number].count for number in chosen])
    first = np.array([table.choices[number].first for number in chosen])
    result = first[back]
    if (count > 1).any():
        heights = table.heights(chosen)[back]
        u = rng.uniform(rng.fold_many(chances, index))
        passed = (heights <= (u * heights[:, -1])[:, None]).sum(axis=1)
        result = result + np.minimum(passed, count[back] - 1)
    return _Record(live, state, reply, drawn.logprob, choice, result)


def _choices(
    table: Table, here: np.ndarray, at: np.ndarray, reply: np.ndarray, keys: np.ndarray
) -> tuple[np.ndarray, list[int], np.ndarray]:
    """The choice of each match, the different ones, and which of them each match made."""
    width = int(reply.max()) + 1
    pair = at * width + reply
    different, back = distinct(pair)
    states, said = here[different // width].tolist(), (different % width).tolist()
    legal = np.array([table.draws_invalid(s, r) for s, r in zip(states, said, strict=True)])
    if legal.any():
        options = legal[back]
        noise = rng.fold_many(keys, rng.word_of("invalid"))
        picked = noise % np.maximum(options, 1).astype(np.uint64)
        # One more than the drawn action; 0 where nothing is drawn.
        drawn = np.where(options > 0, picked.astype(np.int64) + 1, 0)
        most = int(drawn.max()) + 1
        different, back = distinct(pair * most + drawn)
        pairs = different // most
        states, said = here[pairs // width].tolist(), (pairs % width).tolist()
        picks = (different % most - 1).tolist()
    else:
        picks = [-1] * len(states)
    chosen = [table.choice(*key) for key in zip(states, said, picks, strict=True)]
    return np.array(chosen)[back], chosen, back


class _Played:
    """The records of all steps, sorted by match."""

    def __init__(
        self, table: Table, matches: Sequence[Match], groups: _Groups, records: Sequence[_Record], final: np.ndarray
    ) -> None:
        self.groups = groups
        self.table = table
        self.matches = matches
        self.final = final
        self.version = table.agent.version
        match = np.concatenate([record.match for record in records])
        order = np.argsort(match, kind="stable")
        self.splits = lengths_to_splits(np.bincount(match, minlength=len(matches)))
        self.state, self.reply, self.choice, self.result = (
            np.concatenate([getattr(record, name) for record in records])[order]
            for name in ("state", "reply", "choice", "result")
        )
        # The tokens of the different replies, laid end to end, and those of the steps.
        ends = lengths_to_splits(np.array([len(reply) for reply in table.replies]))
        taken, self.token_splits = take_segments(ends, self.reply)
        self.token = np.concatenate(table.replies)[taken]
        in_records = np.empty(len(order), dtype=np.int64)
        in_records[order] = np.diff(self.token_splits)
        moved, _ = take_segments(lengths_to_splits(in_records), order)
        self.logprob = np.concatenate([record.logprob for record in records])[moved]
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
            token_splits=self.token_splits,
            context_splits=context_splits,
            extends_previous=np.zeros(len(self.state), dtype=bool),
            reward=reward - table.penalty.array[self.choice],
            outcome=np.add.reduceat(table.outcome.array[self.result], splits[:-1]),
            terminated=self.terminated,
            truncated=~self.terminated,
            group=self.groups.index,
            match=_numbered(zip(self.groups.index.tolist(), (m.member for m in self.matches), strict=True)),
            player=np.zeros(len(self.matches), dtype=np.int64),
            policy_version=np.full(len(self.state), self.version),
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
            steps=[self._object(n, self.matches[number].max_steps - n + at.start) for n in range(at.start, at.stop)],
            terminated=terminated,
            truncated=not terminated,
            outcome=float(table.outcome.array[self.result[at]].sum()),
            success=None if np.isnan(success) else bool(success),
            final_context=None if terminated else table.prompt(final).token,
            final_view=table.views[final],
            policy_version=self.version,
        )

    def _object(self, n: int, steps_left: int) -> Step:
        table = self.table
        state, result, number = int(self.state[n]), int(self.result[n]), int(self.choice[n])
        choice, transition = table.choices[number], table.transitions[result]
        reward = float(table.reward.array[result])
        generator: Any = table.agent.generator
        at = slice(int(self.token_splits[n]), int(self.token_splits[n + 1]))
        token = self.token[at]
        decision = Decision(
            action=choice.action,
            valid=choice.valid,
            text=choice.text,
            context=table.prompt(state).token,
            token=token,
            logprob=self.logprob[at],
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
            state=table.states[state],
            steps_left=steps_left,
        )


def _numbered(names: Any) -> np.ndarray:
    """Numbers in the order of appearance."""
    found: dict[Any, int] = {}
    return np.array([found.setdefault(name, len(found)) for name in names])
