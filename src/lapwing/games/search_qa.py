"""Search and answer: questions whose answers stand in a corpus that only the search tool can read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from lapwing.core.errors import UserError, nearest
from lapwing.core.storage import canonical_json
from lapwing.core.types import Answer, BestKnown, ToolCall
from lapwing.games.search.source import NOTHING_FOUND, Source, query_of
from lapwing.games.search.world import Question, make_world
from lapwing.games.tools import qa
from lapwing.games.tools import rewards as paid
from lapwing.games.tools.dialogue import Reply, ToolGame, ToolState, Turn, calls, check_turns, final_answer
from lapwing.games.tools.tool_policy import ToolPolicy
from lapwing.games.tools.toolbox import Toolbox

_V1_WEIGHTS = tuple(f"{part}_weight" for part in paid.V1_PARTS)
SPLITS = ("all", "train", "development", "test")


@dataclass(frozen=True)
class SearchQa(ToolGame):
    """Answer a question with a search tool over a corpus.

    | action | meaning |
    | --- | --- |
    | search, one query | the `top_k` best documents, best first; a turn |
    | answer, a text | ends the episode |

    View: the question, the tools, all replies so far with their results, and how many calls are left.

    The embedded world is drawn from `world_seed`: entities with names of shared syllables, a document for each fact
    "name relation value", and questions "relation name". Who knows nothing but the most frequent value of each
    relation answers a share of about `mode_share` (the policy `guess`). The questions of an entity are all in one
    split, so that test questions are about names that were never asked for in training.

    Instead of the embedded world: `corpus` and `questions`, two JSONL files, or `dataset`, "trivia_qa", "hotpot_qa" or
    a local copy of one, and then the sizes of the world play no part.

    Reward: with `rewards = "v1"` (MT-GRPO) the turns earn `tool_execution_weight` × the share of calls that worked, and
    `answer_in_result_weight` if the first result holds an answer, where a reply that could not be read is a call that
    failed; the outcome is `answer_presence_weight` if the answer contains a right one and `exact_match_weight` if it
    is one. With `rewards = "v2"` (MT-PPO) each turn earns +0.3 if its result holds an answer, +0.1 if it could be read
    and −0.2 if not, −`search_penalty` × the searches so far; the outcome is +1 right, +0.2 wrong, −1 without an
    answer. `turn_weight` multiplies what turns pay: 0 is outcome-only. All parts of v1 are logged as shares, whatever
    they pay, together with `f1` and `exact_query`, the share of the gold queries that were asked, and not refused;
    `exact_query_weight`, which no paper has, pays for the latter with v1: over several hops the answer is never in the
    first result, and nothing else pays for finding the way.

    Reference: MT-GRPO, Zeng et al. 2025. https://arxiv.org/abs/2505.11821

    Attributes:
      entities, relations, values, mode_share, facts_per_document, hops, aliases, world_seed: of the embedded world.
      corpus, questions: paths of JSONL files; both or neither.
      dataset: an id of the `datasets` package or a local path.
      encoder: a local Hugging Face folder or a hub id of a text encoder: dense retrieval; empty for BM25.
      top_k: documents a search returns.
      max_turns: tool calls that get a result; one more reply is for the answer.
      rewards: "v1" or "v2".
      turn_weight, tool_execution_weight, answer_in_result_weight, exact_query_weight: see above.
      answer_presence_weight, exact_match_weight, search_penalty: see above.
      search_price: what a search costs, for shaping that prices calls (the column `tool_cost`); it pays nothing itself.
      tool_policy: path of a file of rules for the calls; empty for none.
      split: "all", "train", "development" or "test".
    """

    entities: int = 1500
    relations: int = 6
    values: int = 10
    mode_share: float = 0.3
    facts_per_document: int = 1
    hops: int = 1
    aliases: int = 0
    world_seed: int = 0
    corpus: str = ""
    questions: str = ""
    dataset: str = ""
    encoder: str = ""
    top_k: int = 1
    max_turns: int = 1
    rewards: Literal["v1", "v2"] = "v1"
    turn_weight: float = 1.0
    tool_execution_weight: float = paid.TOOL_EXECUTION_WEIGHT
    answer_in_result_weight: float = paid.ANSWER_IN_RESULT_WEIGHT
    exact_query_weight: float = 0.0
    answer_presence_weight: float = paid.ANSWER_PRESENCE_WEIGHT
    exact_match_weight: float = paid.EXACT_MATCH_WEIGHT
    search_penalty: float = 0.1
    search_price: float = 0.0
    tool_policy: str = ""
    split: str = "all"

    # Games are equal, and share an index, only if their files are the same ones in the same state.
    _files: tuple[Any, ...] = field(init=False, repr=False, default=())

    score_part: ClassVar[str] = "f1"

    def __post_init__(self) -> None:
        check_turns(self.max_turns)
        if self.top_k < 1:
            raise UserError(f"game.top_k is a number of documents of at least 1, not {self.top_k}.")
        if self.rewards not in ("v1", "v2"):
            raise UserError(f"game.rewards is 'v1' or 'v2', not '{self.rewards}'.")
        if self.split not in SPLITS:
            raise UserError(f"There is no split '{self.split}'; {nearest(self.split, SPLITS)}")
        if bool(self.corpus) != bool(self.questions):
            raise UserError("game.corpus and game.questions are two files that go together; one of them is missing.")
        if self.dataset and self.corpus:
            raise UserError("game.dataset and game.corpus both say where the questions come from; name one of them.")
        for name in ("turn_weight", "search_penalty", "search_price", "exact_query_weight", *_V1_WEIGHTS):
            low = 0.0 if name == "search_penalty" else -np.inf
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= low):
                least = " of at least 0" if low == 0.0 else ""
                raise UserError(f"game.{name} is a finite number{least}, not {getattr(self, name)}.")
        for path in (self.corpus, self.questions, self.tool_policy):
            if path and not Path(path).is_file():
                raise UserError(f"There is no file {path!r}; name an existing one for the game.")
        named = (self.corpus, self.questions, self.dataset, self.tool_policy)
        object.__setattr__(self, "_files", tuple(_stamp(path) for path in named if path))

    def for_split(self, split: str) -> "SearchQa":
        """The same game with the questions of one split."""
        return replace(self, split=split)

    @property
    def toolbox(self) -> Toolbox:
        """The one tool `search`."""
        return self._source.toolbox(self.top_k)

    @property
    def policy(self) -> ToolPolicy | None:
        """The rules in `tool_policy`, if there are any."""
        return _policy(self.tool_policy, self._files) if self.tool_policy else None

    @property
    def reward_range(self) -> tuple[float, float]:
        """Bounds of what a turn pays."""
        if self.rewards == "v1":
            return super().reward_range
        # A turn pays 0.4 at most; the rest is for the rounding of totals that are subtracted.
        most = abs(self.turn_weight) * (0.5 + self.search_penalty * self.max_turns)
        return -most, most

    @property
    def best_known(self) -> BestKnown | None:
        """Every part of the reward at its most, where the gold query and the right answer get them all.

        With several hops or with aliases some parts cannot be had for every question; of texts from elsewhere nobody
        knows.
        """
        weights = {**(self.turn_weights if self.max_turns else {}), **self.outcome_weights}
        is_plain = self.hops == 1 and self.aliases == 0 and not (self.dataset or self.corpus or self.tool_policy)
        if self.rewards != "v1" or not is_plain or min(weights.values()) < 0.0:
            return None
        return BestKnown(
            sum(weights.values()), "every part of the reward at its most: the gold query, then the right answer"
        )

    @property
    def null_ceiling(self) -> float | None:
        """What is paid for no answer, or for a wrong one; None where the answer may stand in the question."""
        if self.dataset or self.corpus:
            return None
        return 0.0 if self.rewards == "v1" else paid.outcome_v2(correct=False, well_formed=True)

    @property
    def turn_weights(self) -> Mapping[str, float]:
        """What the parts of the turns pay."""
        if self.rewards == "v2":
            return {name: self.turn_weight for name in ("retrieval", "turn_format", "search_cost")}
        weights = {
            "tool_execution": self.turn_weight * self.tool_execution_weight,
            "answer_in_result": self.turn_weight * self.answer_in_result_weight,
        }
        # No published reward: a part that pays nothing unless it is asked for.
        return weights | (
            {"exact_query": self.turn_weight * self.exact_query_weight} if self.exact_query_weight else {}
        )

    @property
    def outcome_weights(self) -> Mapping[str, float]:
        """What the parts of the outcome pay."""
        if self.rewards == "v2":
            return {"outcome": 1.0}
        return {"answer_presence": self.answer_presence_weight, "exact_match": self.exact_match_weight}

    def draw_task(self, rng: np.random.Generator) -> Question:
        """A question of the split."""
        asked = self._source.asked(self.split)
        return asked[int(rng.integers(len(asked)))]

    def question(self, task: Question) -> str:
        """The question as it stands in the corpus."""
        return task.text

    def turn_parts(self, task: Question, turns: Sequence[Turn]) -> Mapping[str, float]:
        """The shares of v1, and with v2 what each turn paid."""
        results = [turn.result for turn in turns if turn.result is not None]
        queries = {
            query_of(turn.action)
            for turn in turns
            if isinstance(turn.action, ToolCall) and turn.result is not None and turn.result.ok
        }
        gold = self._source.queries(task)
        parts = {
            "tool_calls": float(len(calls(turns))),
            "tool_cost": self.search_price * len(calls(turns)),
            "tool_execution": paid.tool_execution(results),
            "answer_in_result": paid.answer_in_result(results, task.answers),
            "exact_query": sum(query in queries for query in gold) / len(gold) if gold else 0.0,
        }
        if self.rewards == "v2":
            parts |= _v2_totals(task, turns, self.search_penalty)
        return parts

    def final_parts(self, task: Question, turns: Sequence[Turn]) -> Mapping[str, float]:
        """The shares of v1 and F1, and with v2 the outcome."""
        answer = final_answer(turns)
        parts = {
            "answer_presence": paid.answer_presence(answer or "", task.answers),
            "exact_match": paid.exact_match(answer or "", task.answers),
            "f1": qa.f1(answer or "", task.answers),
        }
        if self.rewards == "v2":
            correct = bool(parts["exact_match"])
            parts["outcome"] = paid.outcome_v2(correct=correct, well_formed=answer is not None)
        return parts

    def succeeded(self, task: Question, turns: Sequence[Turn]) -> bool:
        """The answer is exactly one of the right ones, up to case and blanks around it."""
        return bool(paid.exact_match(final_answer(turns) or "", task.answers))

    def right_answer(self, task: Question) -> str:
        """The first of the right answers."""
        return task.answers[0]

    def heuristic(self, state: ToolState, player: int) -> Reply:
        """Ask the gold query of each hop, then answer rightly; this is best."""
        gold = self._source.queries(state.task)
        if len(state.turns) < min(len(gold), self.max_turns):
            return search(gold[len(state.turns)])
        return Answer(state.task.answers[0])

    def gold(self, state: ToolState, player: int) -> Answer:
        """The right answer."""
        return Answer(state.task.answers[0])

    def guess(self, state: ToolState, player: int) -> Reply:
        """Answer at once what is most often right for such questions: the floor that calls have to beat."""
        return Answer(self._source.guess(state.task))

    def demonstrate(
        self,
        state: ToolState,
        player: int,
        rng: np.random.Generator,
        *,
        call_share: float = 1.0,
        query_accuracy: float = 1.0,
        copy_accuracy: float = 1.0,
    ) -> Reply:
        """A reply of a demonstrator of limited skill.

        Args:
          state: where the dialogue stands.
          player: 0.
          rng: of this reply.
          call_share: probability that the first reply is a call; otherwise it is an answer, as right as a guess that
            knows how often each answer is right.
          query_accuracy: probability that a call asks the gold query, otherwise that of another question.
          copy_accuracy: probability that an answer after a result is the one that the last result holds, if there is
            one, otherwise a guess.
        """
        done = len(state.turns)
        gold = self._source.queries(state.task)
        if done < min(len(gold), self.max_turns) and (done > 0 or rng.random() < call_share):
            if rng.random() < query_accuracy:
                return search(gold[done])
            return search(self._source.other_query(state.task, done, rng))
        if done and rng.random() < copy_accuracy:
            result = state.turns[-1].result
            read = None if result is None else self._source.read(state.task, result.text)
            if read is not None:
                return Answer(read)
        return Answer(self._source.drawn_answer(state.task, rng))

    def words(self) -> frozenset[str]:
        """All words of documents, questions, queries, answers and calls."""
        return self._source.words | {*NOTHING_FOUND.split(), *self.toolbox.names}

    @property
    def _source(self) -> Source:
        if self.dataset:
            return _from_dataset(self.dataset, self.encoder, self._files)
        if self.corpus:
            return _from_files(self.corpus, self.questions, self.encoder, self._files)
        return _from_world(
            self.encoder,
            entities=self.entities,
            relations=self.relations,
            values=self.values,
            mode_share=self.mode_share,
            facts_per_document=self.facts_per_document,
            hops=self.hops,
            aliases=self.aliases,
            seed=self.world_seed,
        )


def search(query: str) -> ToolCall:
    """The call that asks a query."""
    return ToolCall("search", canonical_json(query))


@lru_cache(maxsize=8)
def _from_world(encoder: str, **settings: Any) -> Source:
    world = make_world(**settings)
    values = frozenset(answer for question in world.questions for answer in question.answers)
    return Source(
        world.documents, world.questions, values=values, guess=world.guess, words=world.words, encoder=encoder
    )


@lru_cache(maxsize=2)
def _from_files(corpus: str, questions: str, encoder: str, _stamps: tuple[Any, ...]) -> Source:
    from lapwing.games.search.corpus import read_corpus, read_questions

    return Source(read_corpus(corpus), read_questions(questions), encoder=encoder)


@lru_cache(maxsize=2)
def _from_dataset(dataset: str, encoder: str, _stamps: tuple[Any, ...]) -> Source:
    from lapwing.games.search.corpus import read_dataset

    return Source(*read_dataset(dataset), encoder=encoder)


@lru_cache(maxsize=8)
def _policy(path: str, _stamps: tuple[Any, ...]) -> ToolPolicy:
    return ToolPolicy.read(Path(path))


def _stamp(path: str) -> tuple[Any, ...]:
    """What tells a file, or the files of a folder, from others that had the name before or have it elsewhere."""
    found = Path(path).resolve()
    files = sorted(found.iterdir()) if found.is_dir() else [found] if found.exists() else []
    return (str(found), *((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files))


def _v2_totals(question: Question, turns: Sequence[Turn], search_penalty: float) -> dict[str, float]:
    totals = {"retrieval": 0.0, "turn_format": 0.0, "search_cost": 0.0}
    searches = 0
    for turn in turns:
        if turn.result is None:
            continue
        searches += isinstance(turn.action, ToolCall)
        paid_turn = paid.turn_v2(
            result_has_answer=bool(paid.answer_in_result([turn.result], question.answers)),
            well_formed=isinstance(turn.action, ToolCall),
            searches_so_far=searches,
            search_penalty=search_penalty,
        )
        for name, value in paid_turn.items():
            totals[name] += value
    return totals
