"""reasoning-gym: questions that a program makes and checks, as games of one step."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from lapwing.core.errors import UserError, nearest
from lapwing.core.rng import fold
from lapwing.core.storage import canonical_json
from lapwing.core.types import Transition
from lapwing.games.adapters._words import split_words

_INSTALL = 'pip install "lapwing[reasoning-gym]"'
SPLITS = ("all", "train", "development", "test")
# Of ten questions so many are for training and for development; the rest is for the test.
_TRAIN, _DEVELOPMENT = 7, 1
# Drawn in vain so often, a split has no questions.
_DRAWS = 2000
# Questions among which the most frequent answer is looked for, and those whose words make a tiny model's vocabulary.
_GUESSED = 200
_HEARD = 2000
_KEPT = 1 << 15


@dataclass(frozen=True, slots=True)
class ReasoningGymState:
    """The number of the question, and the answer that was given; None before."""

    number: int
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class ReasoningGymView:
    """The question."""

    text: str


@dataclass(frozen=True)
class ReasoningGym:
    """Answer one question that a program made; the same program scores the answer.

    | action | meaning |
    | --- | --- |
    | any text | the answer, which ends the match |

    View: the question, in the words of reasoning-gym.

    Start: one of `size` questions, which `question_seed` and their numbers determine. The same text is always in the
    same split, whatever its number: 70 % train, 10 % development, 20 % test, so that no question of the test was seen
    in training. Small tasks repeat questions within a split.

    Reward: 0 for the step; the outcome is the task's score of the answer, from 0 to 1. Many tasks give a little
    for an answer of the right form. Success is a score of 1.

    Some tasks read answers with a parser that evaluates them (sympy): play these in worker processes
    (`[stage.collector] name = "isolated"`) if you do not trust who answers.

    Reference: Stojanovski et al. 2025, "Reasoning Gym: Reasoning Environments for Reinforcement Learning with
      Verifiable Rewards". https://arxiv.org/abs/2505.24760

    Attributes:
      task: the name of a dataset of reasoning-gym; `mixture` plays several.
      settings: settings of the dataset.
      size: how many questions there are.
      question_seed: of the dataset.
      split: "all", "train", "development" or "test"; set by the engine.
    """

    task: str = "chain_sum"
    settings: dict[str, Any] | None = field(default=None, compare=False)
    size: int = 10_000
    question_seed: int = 0
    split: str = "all"

    _key: str = field(init=False, repr=False, default="")

    num_players: ClassVar[int] = 1
    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = True
    reward_range: ClassVar[tuple[float, float]] = (0.0, 0.0)
    null_ceiling: ClassVar[float] = 0.05

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise UserError(f"There is no split '{self.split}'; {nearest(self.split, SPLITS)}")
        if self.size < 1:
            raise UserError(f"game.size is a number of questions of at least 1, not {self.size}.")
        object.__setattr__(self, "_key", canonical_json(self.settings or {}))

    def for_split(self, split: str) -> "ReasoningGym":
        """The same game with the questions of one split."""
        return replace(self, split=split)

    def initial(self, rng: np.random.Generator) -> ReasoningGymState:
        """Draw a question of the split."""
        for _ in range(_DRAWS):
            number = int(rng.integers(self.size))
            if _entry(self, number) is not None and self.split in ("all", _split(self.question(number))):
                return ReasoningGymState(number)
        raise UserError(f"{self.task} has too few questions for the split '{self.split}'; raise game.size.")

    def players(self, state: ReasoningGymState) -> tuple[int, ...]:
        """Always the one player."""
        return (0,)

    def view(self, state: ReasoningGymState, player: int) -> ReasoningGymView:
        """The question."""
        return ReasoningGymView(self.question(state.number))

    def legal(self, state: ReasoningGymState, player: int) -> None:
        """Any text is an answer."""
        return

    def malformed(self, reason: str) -> str:
        """An unreadable reply is no answer."""
        return ""

    def step(self, state: ReasoningGymState, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Score the answer."""
        return self._scored(state, actions[0])

    def outcomes(self, state: ReasoningGymState, actions: Mapping[int, str]) -> list[tuple[float, Transition]]:
        """The one outcome: nothing is left to chance."""
        return [(1.0, self._scored(state, actions[0]))]

    def guess(self, state: ReasoningGymState, player: int) -> str:
        """The most frequent answer among the first questions of the training split: the floor that work has to beat."""
        return _most_frequent(replace(self, split="train"))

    def scripted(self, state: ReasoningGymState, player: int, rng: np.random.Generator) -> str:
        """The answer of another question of the split: the form of an answer, and not what it says."""
        return self.right_answer(self.initial(rng).number)

    def question(self, number: int) -> str:
        """The text of a question."""
        return _entry(self, number)["question"]

    def right_answer(self, number: int) -> str:
        """An answer that scores 1."""
        answer = _entry(self, number)["answer"]
        if not isinstance(answer, str):
            raise UserError(f"{self.task} scores answers but names none that is right; choose another policy.")
        return answer

    def words(self) -> set[str]:
        """The words of the first questions and answers, at most 2,000 of them."""
        return set(_words(replace(self, split="all")))

    def __getattr__(self, name: str) -> Any:
        # Some tasks have no answer of their own.
        if name == "heuristic" and _has_answers(self):
            return self._right
        raise AttributeError(f"{type(self).__name__} has no {name}")

    def _right(self, state: ReasoningGymState, player: int) -> str:
        return self.right_answer(state.number)

    def _scored(self, state: ReasoningGymState, answer: str) -> Transition:
        try:
            score = float(_dataset(self).score_answer(answer.strip(), _entry(self, state.number)))
        except Exception:  # what the task's own reader makes of a text that is no answer
            score = 0.0
        score = min(max(score, 0.0), 1.0) if np.isfinite(score) else 0.0
        return Transition(
            ReasoningGymState(state.number, answer),
            {0: 0.0},
            terminated=True,
            success={0: score >= 1.0},
            outcome={0: score},
        )


def _split(question: str) -> str:
    tenth = fold(0, "split", question) % 10
    return "train" if tenth < _TRAIN else "development" if tenth < _TRAIN + _DEVELOPMENT else "test"


@lru_cache(maxsize=64)
def _dataset(game: ReasoningGym) -> Any:
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise UserError(f"The game reasoning_gym needs a package that is not installed: {_INSTALL}.") from error
    if game.task not in DATASETS:
        raise UserError(f"reasoning-gym has no task '{game.task}'; {nearest(game.task, DATASETS)}")
    settings = game.settings or {}
    for name in ("seed", "size"):
        if name in settings:
            raise UserError(f"game.settings.{name} is set by game.{'question_seed' if name == 'seed' else 'size'}.")
    try:
        return reasoning_gym.create_dataset(game.task, seed=game.question_seed, size=game.size, **settings)
    except (TypeError, AssertionError, ValueError) as error:
        raise UserError(f"The task '{game.task}' refuses its settings {settings}: {error}") from error


@lru_cache(maxsize=_KEPT)
def _made(game: ReasoningGym, number: int) -> Any:
    """A question with its answer; None where the task does not find one for this number."""
    dataset = _dataset(game)
    try:
        return dataset[number]
    except RuntimeError:  # as mazes do, now and then
        return None


def _entry(game: ReasoningGym, number: int) -> Any:
    # All splits share what was made.
    return _made(game if game.split == "all" else replace(game, split="all"), number)


@lru_cache(maxsize=64)
def _has_answers(game: ReasoningGym) -> bool:
    first = next((e for e in (_entry(game, number) for number in range(game.size)) if e is not None), None)
    return first is not None and isinstance(first["answer"], str)


@lru_cache(maxsize=64)
def _most_frequent(game: ReasoningGym) -> str:
    entries = [_entry(game, number) for number in range(min(game.size, _GUESSED))]
    answers = [str(e["answer"]) for e in entries if e is not None and _split(e["question"]) == "train"]
    return max(sorted(set(answers)), key=Counter(answers).__getitem__, default="")


@lru_cache(maxsize=8)
def _words(game: ReasoningGym) -> frozenset[str]:
    found: set[str] = set()
    for number in range(min(game.size, _HEARD)):
        entry = _entry(game, number)
        if entry is not None:
            found.update(entry["question"].split(), split_words(entry["question"]), str(entry["answer"]).split())
    return frozenset(found)
