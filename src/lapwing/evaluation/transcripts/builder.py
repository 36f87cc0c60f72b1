"""Episodes of a file laid end to end as they are read, so that only numbers are kept of most of them."""

import itertools
import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.columns import COLUMNS
from lapwing.core.errors import UserError
from lapwing.core.ragged import lengths_to_splits
from lapwing.evaluation.transcripts.keys import json_key
from lapwing.evaluation.transcripts.lines import shown

SHOWN_EPISODES = 50
SHOWN_STEPS = 1000
_SHOWN_TEXT = 1500
_LABEL = 60
# Columns that are no floating-point numbers: their array code and their type in the batch.
_OTHER_TYPES = {"switch": ("b", np.bool_), "span": ("b", np.int8), "answer_key": ("Q", np.uint64)}
# The hash of a context is Lapwing's own; no file holds it.
_UNREAD = ("context_key",)
STEP_COLUMNS = tuple(name for name, column in COLUMNS.items() if column.axis == "N" and name not in _UNREAD)
TOKEN_COLUMNS = tuple(name for name, column in COLUMNS.items() if column.axis == "K")
EPISODE_COLUMNS = tuple(name for name, column in COLUMNS.items() if column.axis == "E")
TOKENS = "tokens or log-probabilities"


@dataclass(slots=True)
class StepRecord:
    """One step as a reader hands it over.

    Attributes:
      where: in the file, for messages.
      view, reply: to be shown to a person.
      view_key, action_key, next_view_key: 0 = never match.
      reward: of the step.
      valid: the reply was a legal action.
      token, logprob: of the reply; None where the file does not say.
      columns: registered columns on axis N, by name.
      token_columns: registered columns on axis K, by name, as long as the reply has tokens.
    """

    where: str
    view: Any
    reply: Any
    view_key: int
    action_key: int
    next_view_key: int
    reward: float
    valid: bool = True
    token: array | None = None
    logprob: array | None = None
    columns: Mapping[str, float] = field(default_factory=dict)
    token_columns: Mapping[str, array] = field(default_factory=dict)


@dataclass(slots=True)
class EpisodeRecord:
    """One episode as a reader hands it over; `group`, `game` and `identifier` are any JSON, None = not said."""

    where: str
    group: Any
    game: Any
    identifier: Any
    steps: list[StepRecord]
    outcome: float
    terminated: bool
    truncated: bool
    player: int = 0
    columns: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ShownStep:
    """What a person sees of a step."""

    view: str
    reply: str


@dataclass(frozen=True)
class ShownEpisode:
    """What a person sees of an episode; `index` is its place in the batch."""

    index: int
    steps: tuple[ShownStep, ...]


@dataclass(frozen=True)
class Transcripts:
    """Episodes that were read.

    Attributes:
      source: the path that was named.
      form: the format.
      views: "last" or "history".
      batch: all episodes.
      identifiers [E]: the name of each episode, else where it stood.
      groups [groups]: the name of each group, by its number in the batch.
      shown: the first episodes, as text.
      notes: what a person should know about the reading.
    """

    source: str
    form: str
    views: str
    batch: EpisodeBatch
    identifiers: Sequence[str]
    groups: Sequence[str]
    shown: Sequence[ShownEpisode]
    notes: Sequence[str]


class Builder:
    """Collects episodes."""

    def __init__(self) -> None:
        """Begin with none."""
        self.identifiers: list[str] = []
        self.groups: list[str] = []
        self.shown: list[ShownEpisode] = []
        self.views_missing = 0
        self.actions_missing = 0
        self._group_numbers: dict[int, int] = {}
        self._games: list[tuple[int, str, str]] = []
        self._seen: dict[int, str] = {}
        self._shown_steps = 0
        self._step_fields: frozenset[str] | None = None
        self._step_fields_from = ""
        self._of_episode: dict[str, Any] = {name: array("d") for name in ("outcome", *EPISODE_COLUMNS)}
        self._of_episode["answer_key"] = array("Q")
        self._integers = {name: array("q") for name in ("lengths", "terminated", "truncated", "group", "player")}
        self._keys = {name: array("Q") for name in ("view_key", "action_key", "next_view_key")}
        self._reward, self._valid, self._tokens = array("d"), array("b"), array("q")
        self._token, self._logprob = array("i"), array("d")
        self._columns: dict[str, Any] = {name: array(_code(name)) for name in (*STEP_COLUMNS, *TOKEN_COLUMNS)}

    def add(self, episode: EpisodeRecord) -> None:
        """Lay one more episode behind the others.

        Raises:
          UserError: it does not go with those before it.
        """
        self._check_identifier(episode)
        number = self._group(episode)
        for name, value in (
            ("lengths", len(episode.steps)),
            ("terminated", episode.terminated),
            ("truncated", episode.truncated),
            ("group", number),
            ("player", episode.player),
        ):
            self._integers[name].append(value)
        self._of_episode["outcome"].append(episode.outcome)
        for name in EPISODE_COLUMNS:
            self._of_episode[name].append(episode.columns.get(name, 0 if name == "answer_key" else np.nan))
        for at, step in enumerate(episode.steps):
            self._step(step, is_first=at == 0)
        self._show(episode)

    def _check_identifier(self, episode: EpisodeRecord) -> None:
        self.identifiers.append(episode.where if episode.identifier is None else label(episode.identifier))
        if episode.identifier is None:
            return
        key = json_key(episode.identifier, episode.where)
        if key in self._seen:
            raise UserError(
                f"{episode.where}: the episode {shown(episode.identifier)} is there already, {self._seen[key]}; "
                "give every episode an id of its own, or none."
            )
        self._seen[key] = episode.where

    def _group(self, episode: EpisodeRecord) -> int:
        key = json_key(episode.group, episode.where)
        game = json_key(episode.game, episode.where)
        number = self._group_numbers.setdefault(key, len(self._group_numbers))
        if number == len(self.groups):
            self.groups.append(label(episode.group))
            self._games.append((game, shown(episode.game), episode.where))
        known, name, where = self._games[number]
        if game != known:
            raise UserError(
                f"{episode.where}: group {shown(episode.group)} holds episodes of two games, {name} ({where}) and "
                f"{shown(episode.game)}; give each game its own groups, or name other fields with --map group=…"
            )
        return number

    def _step(self, step: StepRecord, *, is_first: bool) -> None:
        self._check_fields(step)
        count = self._lay_tokens(step)
        for name, keys in self._keys.items():
            keys.append(getattr(step, name))
        self._reward.append(step.reward)
        self._valid.append(step.valid)
        self._tokens.append(count)
        for name, value in step.columns.items():
            self._columns[name].append(is_first or bool(value) if name == "switch" else value)
        self.views_missing += step.view_key == 0
        self.actions_missing += step.action_key == 0

    def _check_fields(self, step: StepRecord) -> None:
        found = frozenset((*step.columns, *step.token_columns))
        if step.token is not None or step.logprob is not None:
            found |= {TOKENS}
        if self._step_fields is None:
            self._step_fields, self._step_fields_from = found, step.where
        elif found != self._step_fields:
            name = sorted(found ^ self._step_fields)[0]
            has, has_not = (step.where, self._step_fields_from)
            if name not in found:
                has, has_not = has_not, has
            raise UserError(f"{has_not} has no '{name}', but {has} has; give it in every step, or in none.")

    def _lay_tokens(self, step: StepRecord) -> int:
        """Add the tokens of a step; a step whose tokens are not known counts as one."""
        given = {"tokens": step.token, "logprobs": step.logprob, **step.token_columns}
        lengths = {name: len(values) for name, values in given.items() if values is not None}
        if len(set(lengths.values())) > 1:
            texts = ", ".join(f"{count} in '{name}'" for name, count in lengths.items())
            raise UserError(f"{step.where}: the reply has {texts}; give one number for every token.")
        count = next(iter(lengths.values()), 1)
        self._token.extend(step.token if step.token is not None else array("i", bytes(4 * count)))
        self._logprob.extend(step.logprob if step.logprob is not None else array("d", bytes(8 * count)))
        for name, values in step.token_columns.items():
            self._columns[name].extend(values)
        return count

    def _show(self, episode: EpisodeRecord) -> None:
        if len(self.shown) >= SHOWN_EPISODES or self._shown_steps + len(episode.steps) > SHOWN_STEPS:
            # Only the first episodes are shown; one that is too long ends them too.
            self._shown_steps = SHOWN_STEPS
            if self.shown:
                return
        steps = tuple(
            ShownStep(readable(step.view), readable(step.reply))
            for step in itertools.islice(episode.steps, SHOWN_STEPS)
        )
        self.shown.append(ShownEpisode(len(self.identifiers) - 1, steps))
        self._shown_steps += len(steps)

    @property
    def has_tokens(self) -> bool:
        """Whether the file tells how many tokens a reply has."""
        return bool(self._step_fields) and not self._step_fields.isdisjoint((TOKENS, *TOKEN_COLUMNS))

    def batch(self) -> EpisodeBatch:
        """The batch of all episodes."""
        of = {name: np.array(values, dtype=np.int64) for name, values in self._integers.items()}
        steps, episodes = len(self._reward), len(self.identifiers)
        return EpisodeBatch(
            step_splits=lengths_to_splits(of["lengths"]),
            token_splits=lengths_to_splits(np.array(self._tokens, dtype=np.int64)),
            context_splits=np.zeros(steps + 1, dtype=np.int64),
            extends_previous=np.zeros(steps, dtype=bool),
            reward=np.array(self._reward),
            outcome=np.array(self._of_episode["outcome"]),
            terminated=of["terminated"].astype(bool),
            truncated=of["truncated"].astype(bool),
            group=of["group"],
            match=np.arange(episodes),
            player=of["player"],
            policy_version=np.zeros(steps, dtype=np.int64),
            token=np.array(self._token, dtype=np.int32),
            context_token=np.zeros(0, dtype=np.int32),
            sampler_logprob=np.array(self._logprob),
            behavior_logprob=np.array(self._logprob),
            final_context_splits=np.zeros(episodes + 1, dtype=np.int64),
            final_context_token=np.zeros(0, dtype=np.int32),
            **{name: np.array(keys, dtype=np.uint64) for name, keys in self._keys.items()},
            valid=np.array(self._valid, dtype=bool),
            extra=self._extra(),
        )

    def _extra(self) -> dict[str, np.ndarray]:
        names = (*STEP_COLUMNS, *TOKEN_COLUMNS)
        found = {name: _as_array(name, self._columns[name]) for name in names if name in (self._step_fields or ())}
        for name in EPISODE_COLUMNS:
            values = _as_array(name, self._of_episode[name])
            if (values != 0).any() if name == "answer_key" else np.isfinite(values).any():
                found[name] = values
        return found


def _code(name: str) -> str:
    return _OTHER_TYPES.get(name, ("d", None))[0]


def _as_array(name: str, values: array) -> np.ndarray:
    return np.array(values, dtype=_OTHER_TYPES.get(name, ("d", np.float64))[1])


def label(value: Any) -> str:
    """A short name for a group or an episode."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LABEL else f"{text[:_LABEL]}…"


def readable(value: Any) -> str:
    """A view or a reply as text for a person, cut where it is long."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, list) and value and all(isinstance(part, dict) and "role" in part for part in value):
        text = "\n".join(f"{part['role']}: {_content(part.get('content'))}" for part in value)
    else:
        text = "" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_TEXT else f"{text[:_SHOWN_TEXT]}… ({len(text):,} characters)"


def _content(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_part(part) for part in value)
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def _part(value: Any) -> str:
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        return value["text"]
    return f"[{value.get('type', 'part')}]" if isinstance(value, dict) else str(value)
