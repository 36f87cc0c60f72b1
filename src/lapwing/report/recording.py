"""What the replay of a run shows: a policy's episodes, token by token, with what every credit method gave them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from lapwing.annotate._action_distribution import ActionDistribution
from lapwing.audit.methods import Method
from lapwing.core.batch import EpisodeBatch
from lapwing.core.clean_text import printable
from lapwing.core.errors import LapwingError
from lapwing.core.memory import bound
from lapwing.core.types import Episode, Step
from lapwing.report.pictures import picture

# What one policy's episodes may take; whole episodes are left out beyond it.
MOST_STEPS = 1200
MOST_CHARACTERS = 600_000
# The first and the last steps of a longer episode.
_LONGEST_EPISODE = 200
_LONGEST_PROMPT = 8000
_LONGEST_NAME = 200
_MOST_TOKENS = 512
_MOST_PARTS = 24


class Credit(NamedTuple):
    """What a method gives: its level, "step" or "token", and its numbers, [N] or [K]."""

    level: str
    advantage: np.ndarray


@dataclass(frozen=True, eq=False)
class Played:
    """Episodes of one policy, and what was found out about them.

    Attributes:
      episodes: E of them.
      batch: the same, laid end to end, with all columns; its `exact_advantage` is shown where it is there.
      decode: from token ids to text, special tokens included.
      credit: of each method that takes the batch.
      truth: the solved game; None where there is no exact answer.
      distribution: reads π(action | view) off the model; None where replies are not the names of actions.
      weights: in words.
    """

    episodes: Sequence[Episode]
    batch: EpisodeBatch
    decode: Callable[[Sequence[int]], str]
    credit: Mapping[str, Credit]
    truth: Any
    distribution: ActionDistribution | None
    weights: str


def credit_of(methods: Sequence[Method], batch: EpisodeBatch) -> tuple[dict[str, Credit], dict[str, str]]:
    """What each method gives the batch, and the sentence of each that refuses it."""
    found: dict[str, Credit] = {}
    refused: dict[str, str] = {}
    for method in methods:
        try:
            advantage = np.asarray(bound(method.credit, method.settings)(batch), dtype=np.float64)
            found[method.name] = Credit(method.level, advantage)
        except LapwingError as error:
            refused[method.name] = str(error)
    return found, refused


def record(played: Played) -> dict[str, Any]:
    """Turn episodes into the object that `replay.json` holds for one policy.

    Args:
      played: what to record.

    Returns:
      Plain JSON data: tables of different prompts, pictures and choices, and episodes that point into them
      (docs/run_folder.md lists the keys).
    """
    tables = _Tables()
    choices = _Choices(played)
    episodes, steps = [], 0
    for number in _order(played.episodes):
        length = min(len(played.episodes[number].steps), _LONGEST_EPISODE)
        full = steps + length > MOST_STEPS or tables.characters > MOST_CHARACTERS
        if full and episodes:
            continue
        steps += length
        episodes.append(_episode(played, number, tables, choices))
    return {
        "weights": played.weights,
        "played": len(played.episodes),
        "prompts": list(tables.prompts),
        "pictures": tables.pictures,
        "choices": choices.rows,
        "episodes": episodes,
    }


def short(value: float | None) -> float | None:
    """A number with four digits; None where there is no finite one."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.4g}")


@dataclass
class _Tables:
    """Different prompts and pictures, each once: in a small game they repeat hundreds of times."""

    prompts: dict[str, int] = field(default_factory=dict)
    pictures: list[dict[str, Any]] = field(default_factory=list)
    characters: int = 0
    _picture: dict[int, int] = field(default_factory=dict)

    def prompt(self, text: str) -> int:
        shown = printable(text[:_LONGEST_PROMPT])
        if len(text) > _LONGEST_PROMPT:
            shown = f"{shown}… ({len(text) - _LONGEST_PROMPT:,} more characters)"
        if shown not in self.prompts:
            self.characters += len(shown)
        return self.prompts.setdefault(shown, len(self.prompts))

    def picture(self, view: Any, key: int) -> int:
        if key not in self._picture:
            self._picture[key] = len(self.pictures)
            drawn = picture(view)
            self.characters += len(str(drawn))
            self.pictures.append(drawn)
        return self._picture[key]


class _Choices:
    """π(a | view) and the exact advantages of all actions, each different row once."""

    def __init__(self, played: Played) -> None:
        self.rows: list[dict[str, Any]] = []
        self._of: dict[tuple[int, int, int], int] = {}
        self._probability: dict[int, tuple[tuple[Any, ...], np.ndarray]] = {}
        self._truth = played.truth
        self._place = None if played.truth is None else played.truth.places.locate(played.batch)
        self._batch = played.batch
        if played.truth is None and played.distribution is not None:
            self._ask(played, played.distribution)

    def at(self, step: int) -> int | None:
        """The row of step number `step` of the batch; None where nothing is known."""
        key = int(self._batch.view_key[step])
        if self._place is not None:
            view, left, level, _ = (int(where[step]) for where in self._place)
            return self._row((view, left, level), self._solved(view, left, level))
        if key not in self._probability:
            return None
        legal, probability = self._probability[key]
        return self._row((key, 0, 0), _choice(legal, probability))

    def _row(self, key: tuple[int, int, int], row: dict[str, Any]) -> int:
        if key not in self._of:
            self._of[key] = len(self.rows)
            self.rows.append(row)
        return self._of[key]

    def _solved(self, view: int, left: int, level: int) -> dict[str, Any]:
        legal = self._truth.places.legal[view]
        exact = self._truth.advantages[level, left, view]
        shown = [*(short(exact[action]) for action in range(len(legal))), short(exact[-1])]
        return {**_choice(legal, self._truth.policy[view]), "exact": shown}

    def _ask(self, played: Played, distribution: ActionDistribution) -> None:
        views: dict[int, tuple[Any, tuple[Any, ...]]] = {}
        for step, number in _steps(played):
            key = int(played.batch.view_key[number])
            legal = step_legal(played.episodes[int(played.batch.episode_of_step[number])], step)
            if key not in views and legal is not None:
                views[key] = (step.view, legal)
        if not views:
            return
        legal = [actions for _, actions in views.values()]
        found = distribution.probabilities([view for view, _ in views.values()], legal, max(map(len, legal)))
        for key, actions, row in zip(views, legal, found, strict=True):
            self._probability[key] = (actions, row)


def step_legal(episode: Episode, step: Step) -> tuple[Any, ...] | None:
    """The legal actions of a step; None where the game is open-ended or the state was not kept."""
    if step.state is None:
        return None
    legal = episode.match.game.legal(step.state, episode.player)
    return None if legal is None else tuple(legal)


def _choice(legal: Sequence[Any], probability: np.ndarray) -> dict[str, Any]:
    shown = [*(short(probability[action]) for action in range(len(legal))), short(probability[-1])]
    return {"actions": [_name(action) for action in legal], "probability": shown}


def _steps(played: Played) -> list[tuple[Step, int]]:
    """The steps that are recorded, with their numbers in the batch."""
    splits = played.batch.step_splits
    return [
        (episode.steps[at], int(splits[number]) + at)
        for number, episode in enumerate(played.episodes)
        for at in _kept(len(episode.steps))
    ]


def _kept(length: int) -> list[int]:
    half = _LONGEST_EPISODE // 2
    return [*range(length)] if length <= _LONGEST_EPISODE else [*range(half), *range(length - half, length)]


def _order(episodes: Sequence[Episode]) -> list[int]:
    """Best, worst, longest and a failed one first, then the others as they were played."""
    numbers = range(len(episodes))
    returns = [episode.episode_return for episode in episodes]
    first = [
        max(numbers, key=lambda i: (returns[i], -i)),
        min(numbers, key=lambda i: (returns[i], i)),
        max(numbers, key=lambda i: (len(episodes[i].steps), -i)),
        next((i for i in numbers if episodes[i].success is False), 0),
    ]
    return list(dict.fromkeys([*first, *numbers]))


def _episode(played: Played, number: int, tables: _Tables, choices: _Choices) -> dict[str, Any]:
    episode = played.episodes[number]
    first = int(played.batch.step_splits[number])
    last = episode.steps[-1]
    steps, before = [], ""
    for at in _kept(len(episode.steps)):
        prompt = played.decode(episode.steps[at].decision.context.tolist())
        # A transcript is stored once: its next prompt begins with the one before.
        extends = at > 0 and prompt.startswith(before) and episode.steps[at].decision.extends > 0
        shown = {"prompt": tables.prompt(prompt[len(before) :] if extends else prompt), "extends": extends}
        steps.append(_step(played, episode, at, first + at, tables, choices) | shown)
        before = prompt
    return {
        "match": _name(episode.match.identifier),
        "group": episode.match.group,
        "number": number,
        "return": short(episode.episode_return),
        "domain_return": short(episode.domain_return),
        "outcome": short(episode.outcome),
        "success": episode.success,
        "terminated": episode.terminated,
        "length": len(episode.steps),
        "end": tables.picture(episode.final_view, last.next_view_key or -first - 1),
        "steps": steps,
    }


def _step(played: Played, episode: Episode, at: int, number: int, tables: _Tables, choices: _Choices) -> dict[str, Any]:
    step, batch = episode.steps[at], played.batch
    decision = step.decision
    tokens = slice(int(batch.token_splits[number]), min(int(batch.token_splits[number + 1]), _most(batch, number)))
    ids = batch.token[tokens].tolist()
    texts = [printable(played.decode([token])) for token in ids]
    tables.characters += sum(map(len, texts))
    exact = batch.extra.get("exact_advantage")
    return {
        "number": at + 1,
        "picture": tables.picture(step.view, step.view_key),
        "tokens": texts,
        "cut": len(decision.token) - len(ids),
        "logprob": [short(value) for value in batch.sampler_logprob[tokens]],
        "entropy": _per_token(batch, "token_entropy", tokens),
        "role": [] if decision.span is None else decision.span[: len(ids)].tolist(),
        "action": None if step.action is None else _name(step.action),
        "valid": decision.valid,
        "reason": _name(decision.reason),
        "reward": short(step.reward),
        "domain_reward": short(step.domain_reward),
        "parts": {_name(name): short(value) for name, value in list(step.parts.items())[:_MOST_PARTS]},
        "choice": choices.at(number),
        "exact": None if exact is None else short(exact[number]),
        "credit": [_credit(found, number, tokens) for found in played.credit.values()],
    }


def _most(batch: EpisodeBatch, step: int) -> int:
    return int(batch.token_splits[step]) + _MOST_TOKENS


def _per_token(batch: EpisodeBatch, column: str, tokens: slice) -> list[float | None]:
    values = batch.extra.get(column)
    return [] if values is None else [short(value) for value in values[tokens]]


def _credit(found: Credit, step: int, tokens: slice) -> float | list[float | None] | None:
    """A number for a step, or a list of them for its tokens."""
    if found.level == "step":
        return short(found.advantage[step])
    return [short(value) for value in found.advantage[tokens]]


def _name(value: Any) -> str:
    text = str(value)
    return printable(text) if len(text) <= _LONGEST_NAME else printable(text[:_LONGEST_NAME]) + "…"
