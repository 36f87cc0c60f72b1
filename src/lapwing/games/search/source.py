"""What a game of search and answer asks about: documents, questions, the search tool, and what a demonstrator knows."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.types import ToolCall
from lapwing.games.search.retrievers import Bm25, Dense, Retriever, named_encoder
from lapwing.games.search.world import FRIEND, Document, Question
from lapwing.games.tools.qa import normalise_answer
from lapwing.games.tools.tool import Tool
from lapwing.games.tools.toolbox import Toolbox

NOTHING_FOUND = "nothing found"


class Source:
    """Documents and questions, indexed once and shared by all games that ask about them."""

    def __init__(
        self,
        documents: Sequence[Document],
        questions: Sequence[Question],
        *,
        values: frozenset[str] = frozenset(),
        guess: Mapping[str, str] | None = None,
        words: frozenset[str] | None = None,
        encoder: str = "",
    ) -> None:
        """Index them.

        Args:
          documents, questions: what there is.
          values: in a generated world, all answers that facts may hold.
          guess: for each question the answer that is most often right; found from the training questions if left out.
          words: all words of the texts; found if left out.
          encoder: a text encoder by name, for dense retrieval; empty for BM25.

        Raises:
          UserError: there are no documents or no questions.
        """
        if not documents or not questions:
            raise UserError("A game of search and answer needs at least one document and one question.")
        self.documents = {document.id: document for document in documents}
        self.questions = tuple(questions)
        self._values = values
        self._words = words
        self._retriever: Retriever = Dense(documents, named_encoder(encoder)) if encoder else Bm25(documents)
        self._by_split = {
            split: tuple(q for q in questions if q.split == split) for split in ("train", "development", "test")
        }
        self._known = self._by_split["train"] or self.questions
        self._alike: dict[str, list[Question]] = defaultdict(list)
        for question in self._known:
            self._alike[kind(question)].append(question)
        self._guess = guess
        self._common = {name: _most_frequent(alike) for name, alike in self._alike.items()}
        self._toolboxes: dict[int, Toolbox] = {}

    @property
    def words(self) -> frozenset[str]:
        """All words of documents, questions, queries and answers."""
        if self._words is None:
            texts = [shown(d) for d in self.documents.values()] + [q.text for q in self.questions]
            texts += [answer for q in self.questions for answer in (*q.answers, q.query)]
            self._words = frozenset(word for text in texts for word in text.split())
        return self._words

    def asked(self, split: str) -> tuple[Question, ...]:
        """The questions of a split.

        Raises:
          UserError: there are none.
        """
        found = self.questions if split == "all" else self._by_split[split]
        if not found:
            raise UserError(
                f"No question is in the split '{split}'; give the questions a field 'split', or more of them."
            )
        return found

    def toolbox(self, top_k: int) -> Toolbox:
        """The tool `search`, whose results are the best documents, each as `shown` says."""
        if top_k not in self._toolboxes:
            retriever = self._retriever

            def search(query: str) -> str:
                """Search the corpus.

                Args:
                  query: what to look for, in a few words.
                """
                found = retriever.search(query, top_k)
                return " . ".join(map(shown, found)) or NOTHING_FOUND

            self._toolboxes[top_k] = Toolbox([Tool.of(search)])
        return self._toolboxes[top_k]

    def queries(self, question: Question) -> tuple[str, ...]:
        """The gold query of each hop; none where a corpus does not say them."""
        if not question.query:
            return ()
        titles = [self.documents[gold].title for gold in question.gold[1 : question.hops]]
        # Between the first document and the last one, which states the answer, a world asks for friends.
        asked = [*[FRIEND] * (len(titles) - 1), kind(question)] if titles else []
        return (question.query, *(f"{title} {relation}" for title, relation in zip(titles, asked, strict=True)))

    def other_query(self, question: Question, hop: int, rng: np.random.Generator) -> str:
        """A query of another training question, of the same hop if it has one, that is none of this question's.

        Where there is no such query it is the text of the question itself.
        """
        own, first = self.queries(question), int(rng.integers(len(self._known)))
        for at in range(len(self._known)):
            queries = self.queries(self._known[(first + at) % len(self._known)])
            if queries and queries[min(hop, len(queries) - 1)] not in own:
                return queries[min(hop, len(queries) - 1)]
        return question.text

    def guess(self, question: Question) -> str:
        """The answer that is most often right for questions like this one."""
        if self._guess is not None and question.id in self._guess:
            return self._guess[question.id]
        return self._common.get(kind(question)) or self._most_common

    def drawn_answer(self, question: Question, rng: np.random.Generator) -> str:
        """An answer drawn as often as it is right for training questions like this one."""
        alike = self._alike.get(kind(question)) or self._known
        return alike[int(rng.integers(len(alike)))].answers[0]

    def read(self, question: Question, text: str) -> str | None:
        """What a reader of a result would answer: the value of the relation that was asked for, or any value."""
        facts = text.split(" . ")
        facts.sort(key=lambda fact: kind(question) not in fact.split())
        known = [*_padded(question.answers), *self._padded_values]
        texts = (f" {normalise_answer(fact)} " for fact in facts)
        return next((value for fact in texts for value, words in known if words in fact), None)

    @cached_property
    def _padded_values(self) -> list[tuple[str, str]]:
        return _padded(sorted(self._values))

    @cached_property
    def _most_common(self) -> str:
        return _most_frequent(self._known)


def shown(document: Document) -> str:
    """A document as a result shows it: its text, and before that its title if the text does not hold it."""
    is_told = document.title.lower() in document.text.lower()
    return document.text if is_told else f"{document.title} . {document.text}"


def _padded(values: Iterable[str]) -> list[tuple[str, str]]:
    """Values, each with its words between blanks; those of which nothing is left stand nowhere."""
    return [(value, f" {words} ") for value in values if (words := normalise_answer(value))]


def _most_frequent(questions: Sequence[Question]) -> str:
    return Counter(question.answers[0] for question in questions).most_common(1)[0][0]


def kind(question: Question) -> str:
    """What questions are alike by: their first word, in a generated world the relation."""
    return question.text.split(maxsplit=1)[0] if question.text.strip() else ""


@lru_cache(maxsize=4096)
def query_of(call: ToolCall) -> str:
    """The query that a call asks, as it was written; empty where there is none."""
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return ""
    query = arguments.get("query", "") if isinstance(arguments, dict) else arguments
    return " ".join(query.split()) if isinstance(query, str) else ""
