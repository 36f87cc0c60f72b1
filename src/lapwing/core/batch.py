"""EpisodeBatch: the one data structure, ragged arrays laid end to end. Nothing is padded.

Axes: E episodes, N steps, K reply tokens, C context tokens. A step that extends the one before it stores only
what it adds: context(n) = context(n−1) ⊕ reply(n−1) ⊕ added(n).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from lapwing.core.columns import PART_PREFIX, column_axis, producer
from lapwing.core.errors import LapwingError, MissingColumnError
from lapwing.core.ragged import concatenate_splits, lengths_to_splits, segment_of, segment_sum, take_segments
from lapwing.core.storage import atomic_path, bytes_key
from lapwing.core.types import Answer, Episode, Malformed, Step, ToolCall

SCHEMA_VERSION = 1
_EMPTY = np.zeros(0, dtype=np.int32)


@dataclass(frozen=True)
class EpisodeBatch:
    """E episodes with N steps, K reply tokens and C stored context tokens.

    Attributes:
      step_splits [E+1], token_splits [N+1], context_splits [N+1], final_context_splits [E+1]: boundaries.
      extends_previous [N]: the context continues the previous step's context and reply.
      reward [N]: what is trained on. outcome [E]: what is judged at the end only.
      terminated [E], truncated [E]: ended by the rules; cut by a limit.
      group [E], match [E], player [E]: the group (same initial state), the match within the batch, the seat.
      policy_version [N]: version of the weights that played.
      token [K], context_token [C], final_context_token: token ids, int32.
      sampler_logprob [K]: as sampled. behavior_logprob [K]: the trainer's under the weights that played.
      view_key, action_key, next_view_key [N]: uint64, 0 = never match.
      valid [N]: the reply parsed to a legal action.
      extra: registered columns by name.
    """

    step_splits: np.ndarray
    token_splits: np.ndarray
    context_splits: np.ndarray
    extends_previous: np.ndarray
    reward: np.ndarray
    outcome: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    group: np.ndarray
    match: np.ndarray
    player: np.ndarray
    policy_version: np.ndarray
    token: np.ndarray
    context_token: np.ndarray
    sampler_logprob: np.ndarray
    behavior_logprob: np.ndarray
    final_context_splits: np.ndarray
    final_context_token: np.ndarray
    view_key: np.ndarray
    action_key: np.ndarray
    next_view_key: np.ndarray
    valid: np.ndarray
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, array in self._arrays().items():
            array.flags.writeable = False
            expected = self._expected_length(name)
            if len(array) != expected:
                raise LapwingError(f"Column '{name}' has length {len(array)}, the batch needs {expected}.")
        if np.any(np.diff(self.step_splits) < 1):
            raise LapwingError("Every episode needs at least one step.")
        object.__setattr__(self, "extra", MappingProxyType(dict(self.extra)))

    def _arrays(self) -> dict[str, np.ndarray]:
        base = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "extra"}
        return {**base, **self.extra}

    def _expected_length(self, name: str) -> int:
        if name == "step_splits":
            return len(self.outcome) + 1
        axis = _BASE_AXES.get(name) or column_axis(name)
        return {
            "E": self.num_episodes,
            "E+1": self.num_episodes + 1,
            "N": self.num_steps,
            "N+1": self.num_steps + 1,
            "K": self.num_tokens,
            "C": int(self.context_splits[-1]),
            "F": int(self.final_context_splits[-1]),
        }[axis]

    @property
    def num_episodes(self) -> int:
        """E."""
        return len(self.step_splits) - 1

    @property
    def num_steps(self) -> int:
        """N."""
        return int(self.step_splits[-1])

    @property
    def num_tokens(self) -> int:
        """K."""
        return int(self.token_splits[-1])

    @property
    def episode_of_step(self) -> np.ndarray:
        """The episode of each step, [N]."""
        return segment_of(self.step_splits)

    @property
    def step_of_token(self) -> np.ndarray:
        """The step of each reply token, [K]."""
        return segment_of(self.token_splits)

    @property
    def episode_return(self) -> np.ndarray:
        """Sum of rewards plus outcome, float64 [E]."""
        return segment_sum(self.reward, self.step_splits) + self.outcome

    @property
    def episode_length(self) -> np.ndarray:
        """Steps of each episode, int64 [E]."""
        return np.diff(self.step_splits)

    def column(self, name: str, *, needed_by: str = "") -> np.ndarray:
        """A base or registered column by name.

        Args:
          name: of the column.
          needed_by: the method that asks, for the message.

        Raises:
          MissingColumnError: the batch has no such column; the message names who supplies it.
        """
        if name in _BASE_AXES:
            return getattr(self, name)
        if name not in self.extra:
            column_axis(name)
            method = (
                f"{needed_by} needs the column '{name}', but the batch has none"
                if needed_by
                else (f"The batch has no column '{name}'")
            )
            raise MissingColumnError(f"{method}; {producer(name)} supplies it.")
        return self.extra[name]

    def with_columns(self, **columns: np.ndarray) -> "EpisodeBatch":
        """A batch with further, or replaced, columns; the arrays are copied."""
        base = {k: np.array(v) for k, v in columns.items() if k in _BASE_AXES}
        extra = {k: np.array(v) for k, v in columns.items() if k not in _BASE_AXES}
        return dataclasses.replace(self, **base, extra={**self.extra, **extra})

    def spread(self, step_values: np.ndarray) -> np.ndarray:
        """Give every token the value of its step, [N] → [K]."""
        return np.asarray(step_values)[self.step_of_token]

    def context(self, step: int) -> np.ndarray:
        """The whole context of a step, with what it extends put before it, int32."""
        first = step
        while self.extends_previous[first]:
            first -= 1
        pieces = []
        for n in range(first, step + 1):
            pieces.append(self.context_token[self.context_splits[n] : self.context_splits[n + 1]])
            if n < step:
                pieces.append(self.token[self.token_splits[n] : self.token_splits[n + 1]])
        return np.concatenate(pieces)

    def select(self, episodes: np.ndarray) -> "EpisodeBatch":
        """The batch of the chosen episodes, in the given order.

        Args:
          episodes: indices, or a boolean `keep`, [E].
        """
        episodes = np.asarray(episodes)
        if episodes.dtype == bool:
            episodes = np.flatnonzero(episodes)
        steps, step_splits = take_segments(self.step_splits, episodes)
        tokens, token_splits = take_segments(self.token_splits, steps)
        contexts, context_splits = take_segments(self.context_splits, steps)
        finals, final_splits = take_segments(self.final_context_splits, episodes)
        index = {"E": episodes, "N": steps, "K": tokens, "C": contexts, "F": finals}
        splits = {
            "step_splits": step_splits,
            "token_splits": token_splits,
            "context_splits": context_splits,
            "final_context_splits": final_splits,
        }
        base = {name: getattr(self, name)[index[axis]] for name, axis in _BASE_AXES.items() if axis in index}
        extra = {name: array[index[column_axis(name)]] for name, array in self.extra.items()}
        return EpisodeBatch(**splits, **base, extra=extra)

    @staticmethod
    def concatenate(batches: Sequence["EpisodeBatch"]) -> "EpisodeBatch":
        """Lay batches one after the other; `group` and `match` numbers are kept as they are.

        Raises:
          LapwingError: no batches, or they do not have the same columns.
        """
        if not batches:
            raise LapwingError("There is no batch to concatenate.")
        names = set(batches[0].extra)
        if any(set(batch.extra) != names for batch in batches):
            raise LapwingError("Batches with different columns cannot be concatenated.")
        arrays: dict[str, np.ndarray] = {}
        for name, axis in _BASE_AXES.items():
            parts = [getattr(batch, name) for batch in batches]
            if axis.endswith("+1"):
                splits = parts[0]
                for part in parts[1:]:
                    splits = concatenate_splits(splits, part)
                arrays[name] = splits
            else:
                arrays[name] = np.concatenate(parts)
        extra = {name: np.concatenate([batch.extra[name] for batch in batches]) for name in batches[0].extra}
        return EpisodeBatch(**arrays, extra=extra)

    @staticmethod
    def pack(episodes: Sequence[Episode]) -> "EpisodeBatch":
        """Lay played episodes end to end.

        `group` numbers the pairs (iteration, group) of the matches and `match` the matches, in order of appearance.
        The columns `span` and `switch` are there if every decision tells them; the first step of an episode switches.

        Raises:
          LapwingError: there are no episodes, or a group holds episodes of two games.
        """
        if not episodes:
            raise LapwingError("There are no episodes to pack.")
        steps = [step for episode in episodes for step in episode.steps]
        decisions = [step.decision for step in steps]
        added = [decision.context[decision.extends :] for decision in decisions]
        final = [_EMPTY if e.final_context is None else e.final_context for e in episodes]
        logprob = np.concatenate([decision.logprob for decision in decisions])
        groups, matches = _numbered_groups(episodes)
        return EpisodeBatch(
            step_splits=lengths_to_splits(np.array([len(e.steps) for e in episodes])),
            token_splits=lengths_to_splits(np.array([len(d.token) for d in decisions])),
            context_splits=lengths_to_splits(np.array([len(a) for a in added])),
            extends_previous=np.array([d.extends > 0 for d in decisions]),
            reward=np.array([step.reward for step in steps], dtype=np.float64),
            outcome=np.array([e.outcome for e in episodes], dtype=np.float64),
            terminated=np.array([e.terminated for e in episodes]),
            truncated=np.array([e.truncated for e in episodes]),
            group=np.array([groups[_group_of(e)] for e in episodes]),
            match=np.array([matches[e.match.identifier] for e in episodes]),
            player=np.array([e.player for e in episodes]),
            policy_version=np.repeat(
                np.array([e.policy_version for e in episodes]), np.array([len(e.steps) for e in episodes])
            ),
            token=np.concatenate([d.token for d in decisions]),
            context_token=np.concatenate(added),
            sampler_logprob=logprob,
            behavior_logprob=logprob.copy(),
            final_context_splits=lengths_to_splits(np.array([len(f) for f in final])),
            final_context_token=np.concatenate(final),
            view_key=np.array([step.view_key for step in steps], dtype=np.uint64),
            action_key=np.array([step.action_key for step in steps], dtype=np.uint64),
            next_view_key=np.array([step.next_view_key for step in steps], dtype=np.uint64),
            valid=np.array([d.valid for d in decisions]),
            extra=_played_columns(episodes, steps),
        )

    def save(self, path: str | Path) -> None:
        """Write the batch as one `.npz` file with a schema version; never pickle."""
        arrays: dict[str, Any] = {**self._arrays(), "schema_version": np.array(SCHEMA_VERSION)}
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    @staticmethod
    def load(path: str | Path) -> "EpisodeBatch":
        """Read what `save` wrote.

        Raises:
          LapwingError: the file has another schema version.
        """
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        version = int(arrays.pop("schema_version", np.array(-1)))
        if version != SCHEMA_VERSION:
            raise LapwingError(f"{path} has schema version {version}; this Lapwing reads {SCHEMA_VERSION}.")
        base = {name: arrays.pop(name) for name in _BASE_AXES}
        return EpisodeBatch(**base, extra=arrays)


def _group_of(episode: Episode) -> tuple[str, int, int, int]:
    # Seats are never compared with each other: what one wins another may lose.
    match = episode.match
    return match.split, match.iteration, match.group, episode.player


def _numbered_groups(episodes: Sequence[Episode]) -> tuple[dict[tuple[str, int, int, int], int], dict[str, int]]:
    groups: dict[tuple[str, int, int, int], int] = {}
    games: list[Any] = []
    matches: dict[str, int] = {}
    for e in episodes:
        number = groups.setdefault(_group_of(e), len(groups))
        if number == len(games):
            games.append(e.match.game)
        elif games[number] is not e.match.game and games[number] != e.match.game:
            raise LapwingError(
                f"Group {e.match.group} of iteration {e.match.iteration} holds episodes of two games, {games[number]} "
                f"and {e.match.game}; the episodes of a group begin in the same state of the same game."
            )
        matches.setdefault(e.match.identifier, len(matches))
    return groups, matches


def _played_columns(episodes: Sequence[Episode], steps: Sequence[Step]) -> dict[str, np.ndarray]:
    decisions = [step.decision for step in steps]
    parts = sorted({name for step in steps for name in step.parts})
    extra = {PART_PREFIX + name: np.array([step.parts.get(name, 0.0) for step in steps]) for name in parts}
    extra["context_key"] = _context_keys([decision.context for decision in decisions])
    extra["domain_reward"] = np.array([step.domain_reward for step in steps], dtype=np.float64)
    # Where every reply was forfeited there is no action that would tell.
    announced = any("tool_calls" in getattr(episode.match.game, "PRODUCES", ()) for episode in episodes)
    if announced or any(isinstance(step.action, (ToolCall, Answer, Malformed)) for step in steps):
        extra |= _tool_columns(episodes)
    extra["success"] = np.array([np.nan if e.success is None else float(e.success) for e in episodes])
    if any(e.opponent_version is not None for e in episodes):
        extra["opponent_version"] = np.array(
            [-1 if e.opponent_version is None else e.opponent_version for e in episodes]
        )
    spans = [d.span for d in decisions if d.span is not None]
    if len(spans) == len(decisions):
        extra["span"] = np.concatenate(spans)
    if all(d.switch is not None for d in decisions):
        first = [step is episode.steps[0] for episode in episodes for step in episode.steps]
        extra["switch"] = np.array([bool(d.switch) for d in decisions]) | np.array(first)
    return extra


def _tool_columns(episodes: Sequence[Episode]) -> dict[str, np.ndarray]:
    last = [episode.steps[-1].action for episode in episodes]
    answers = [" ".join(a.text.lower().split()) if isinstance(a, Answer) else "" for a in last]
    return {
        "tool_calls": np.array([sum(isinstance(s.action, ToolCall) for s in e.steps) for e in episodes], dtype=float),
        "tool_cost": np.array([sum(s.parts.get("tool_cost", 0.0) for s in e.steps) for e in episodes], dtype=float),
        "answer_key": np.array([bytes_key(a.encode("utf-8", "replace")) if a else 0 for a in answers], dtype=np.uint64),
    }


def _context_keys(contexts: Sequence[np.ndarray]) -> np.ndarray:
    # Equal prompts are usually one object, so that most contexts need not be hashed.
    keys: dict[int, int] = {}
    for context in contexts:
        if id(context) not in keys:
            keys[id(context)] = bytes_key(context.tobytes())
    return np.array([keys[id(context)] for context in contexts], dtype=np.uint64)


_BASE_AXES = {
    "step_splits": "E+1",
    "token_splits": "N+1",
    "context_splits": "N+1",
    "extends_previous": "N",
    "reward": "N",
    "outcome": "E",
    "terminated": "E",
    "truncated": "E",
    "group": "E",
    "match": "E",
    "player": "E",
    "policy_version": "N",
    "token": "K",
    "context_token": "C",
    "sampler_logprob": "K",
    "behavior_logprob": "K",
    "final_context_splits": "E+1",
    "final_context_token": "F",
    "view_key": "N",
    "action_key": "N",
    "next_view_key": "N",
    "valid": "N",
}


def merged_reward(batch: EpisodeBatch) -> np.ndarray:
    """The rewards with each episode's outcome added to its last step, float64 [N].

    Feeds returns to go, GAE and GiGPO, so that their sum over an episode is `episode_return`.
    """
    reward = batch.reward.astype(np.float64)
    reward[batch.step_splits[1:] - 1] += batch.outcome
    return reward
