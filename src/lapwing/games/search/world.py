"""A small generated world: documents that state its facts, and questions about them."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np

from lapwing.core.errors import UserError, nearest
from lapwing.core.rng import generator

SPLITS = ("train", "development", "test")
RELATIONS = ("home", "craft", "food", "colour", "pet", "song", "tree", "drink", "dance", "game", "river", "metal")
FRIEND = "friend"
SAME = "is"

_CONSONANTS, _VOWELS = "bdfghjklmnprstvwyz", "aeiou"
# Syllables that are English words: a tokeniser or a list of stop words may treat them in its own way.
_ENGLISH = frozenset(
    ["be", "do", "go", "he", "ha", "hi", "ho", "la", "ma", "me", "no", "pa", "re", "so", "to", "we", "ya", "yo"]
)

# Out of 20 parts of all names: 4 test, 2 development, 14 train.
_SPLIT_OF_PART = ("test",) * 4 + ("development",) * 2 + ("train",) * 14


@dataclass(frozen=True, slots=True)
class Document:
    """A passage that can be found: `title` says what it is about, `text` is what a reader gets."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its answer.

    Attributes:
      id: unique among the questions.
      text: the question as asked.
      answers: the aliases of the answer, the canonical one first.
      split: "train", "development" or "test".
      query: the query that finds the first document, empty if unknown.
      hops: how many documents have to be read, one after the other.
      gold: the ids of these documents in this order, empty if unknown.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    split: str
    query: str = ""
    hops: int = 1
    gold: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class World:
    """Documents, and questions about them; equal to nothing but itself, so that it is a cheap key.

    Attributes:
      documents: all of them.
      questions: of all splits.
      words: every word of documents, questions, queries and answers.
      guess: per id of a question, the answer of those who know no more than the relation: its most frequent value
        among the facts of train entities. Empty where nothing is known.
    """

    documents: tuple[Document, ...]
    questions: tuple[Question, ...]
    words: frozenset[str]
    guess: Mapping[str, str]

    def digest(self) -> str:
        """A name of the content: blake2b-64 of documents, questions and guesses as JSON, in hexadecimal."""
        content = [[asdict(x) for x in self.documents], [asdict(x) for x in self.questions], dict(self.guess)]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()


def split_of(key: str) -> str:
    """The split that a name belongs to, by its hash: 14 parts of 20 train, 2 development, 4 test."""
    part = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little") % len(_SPLIT_OF_PART)
    return _SPLIT_OF_PART[part]


def words_of(documents: Iterable[Document], questions: Iterable[Question]) -> frozenset[str]:
    """Every word, between blanks, of documents, questions, queries and answers."""
    texts = [text for document in documents for text in (document.title, document.text)]
    texts += [text for question in questions for text in (question.text, question.query, *question.answers)]
    return frozenset(word for text in texts for word in text.split())


def guess_rate(world: World, split: str) -> float:
    """Share of the questions of a split that `world.guess` answers: the floor beside which an exact match is read.

    Args:
      world: the world; a question without a guess counts as wrong.
      split: "train", "development" or "test".

    Returns:
      A share in [0, 1]; 0 where the split has no questions.

    Raises:
      UserError: there is no such split.
    """
    if split not in SPLITS:
        raise UserError(f"There is no split '{split}'; {nearest(split, SPLITS)}")
    asked = [question for question in world.questions if question.split == split]
    return sum(world.guess.get(question.id) in question.answers for question in asked) / max(len(asked), 1)


@lru_cache(maxsize=8)
def make_world(
    *,
    entities: int = 300,
    relations: int = 6,
    values: int = 10,
    mode_share: float = 0.3,
    facts_per_document: int = 1,
    hops: int = 1,
    aliases: int = 0,
    name_syllables: int = 40,
    value_syllables: int = 24,
    seed: int = 0,
) -> World:
    """Draw a world from a seed: who has which home, craft, food, …, and the questions about it.

        document   ka lo home den bil              one fact, or several joined by " . "
        question   home ka lo                      answer den bil, query "ka lo home"
        two hops   home friend ka lo               query "ka lo friend", then the friend's home

    Everything is a sequence of lower-case words between single blanks. A name is two or three different syllables
    out of a few shared ones, so that whoever can read train names can read the others; no name's syllables are all
    among another's, so that a bag of words tells names apart. A value is two syllables of its own kind and belongs
    to one relation. Each relation has one value that a fact takes with probability `mode_share`; the other values
    are equally likely.

    Splits are by entity, by a hash of the name. All entities are in the documents; questions about test and
    development entities are in no other split. Friends are of the same split, so that no train question is
    answered by a fact of a held-out entity.

    With aliases every entity has further names of the same shared syllables, each in a document
    `<alias> is <name>`, which is needed to find the facts: they use the name only. Half of the questions, drawn, use
    an alias instead of the name; they take one document more, with the query `<alias> is`.

    Args:
      entities: how many, at least 20.
      relations: how many out of `RELATIONS`, 1 to 12; every entity has a value for each.
      values: values of each relation, at least 2.
      mode_share: probability of the most frequent value, 1/values to 1.
      facts_per_document: at most so many facts of one entity, in drawn order, make a document; at least 1.
      hops: 1, or 2 for a question with one hop and one with two for every entity and relation.
      aliases: further names of each entity, 0 to 8.
      name_syllables: syllables that names share, 3 to 72.
      value_syllables: syllables that values share, 2 to 90.
      seed: the world's own seed. Facts do not change with `facts_per_document`.

    Returns:
      The world, remembered: the same settings give the same object.

    Raises:
      UserError: a setting is out of its range, or there are too few syllables or entities.
    """
    _check(entities, relations, values, mode_share, facts_per_document, hops, aliases, name_syllables, value_syllables)
    named = _names(entities, 1 + aliases, name_syllables, seed)
    value_of = _facts([name for name, *_ in named], relations, values, mode_share, value_syllables, seed)
    friend_of = _friends([name for name, *_ in named], seed) if hops == 2 else {}
    documents, source = _documents(named, value_of, friend_of, facts_per_document, seed)
    questions = tuple(_questions(named, value_of, friend_of, source, seed))
    return World(documents, questions, words_of(documents, questions), _guesses(questions, value_of))


def _check(
    entities: int,
    relations: int,
    values: int,
    mode_share: float,
    facts_per_document: int,
    hops: int,
    aliases: int,
    name_syllables: int,
    value_syllables: int,
) -> None:
    for name, found, low, high in (
        ("entities", entities, 20, 100_000),
        ("relations", relations, 1, len(RELATIONS)),
        ("values", values, 2, 4_000),
        ("facts_per_document", facts_per_document, 1, 1_000),
        ("hops", hops, 1, 2),
        ("aliases", aliases, 0, 8),
        ("name_syllables", name_syllables, 3, len(_open_syllables())),
        ("value_syllables", value_syllables, 2, len(_closed_syllables())),
    ):
        if not low <= found <= high:
            raise UserError(f"A world takes {name} from {low} to {high}, not {found}.")
    if not 1 / values <= mode_share <= 1:
        raise UserError(
            f"The most frequent of {values} values has a share from {1 / values:.3g} to 1, not {mode_share}; set "
            "mode_share."
        )
    if relations * values > comb(value_syllables, 2):
        raise UserError(
            f"{value_syllables} syllables give {comb(value_syllables, 2)} values, not {relations} × {values}; raise "
            "value_syllables."
        )


def _syllables() -> list[str]:
    """All of a consonant and a vowel, in an order that changes both from one to the next."""
    count = len(_CONSONANTS)
    return [_CONSONANTS[i % count] + _VOWELS[(i // count + i) % len(_VOWELS)] for i in range(count * len(_VOWELS))]


def _open_syllables() -> list[str]:
    return [syllable for syllable in _syllables() if syllable not in _ENGLISH]


def _closed_syllables() -> list[str]:
    """Those of values end in a consonant, so that nobody takes a value for a name."""
    return [syllable + "nlr"[i % 3] for i, syllable in enumerate(_syllables())]


def _names(entities: int, names_each: int, syllables: int, seed: int) -> list[tuple[str, ...]]:
    """Per entity its name and its aliases; as sets of syllables none contains another."""
    rng = generator("search world", seed, "names")
    pool, needed = _open_syllables()[:syllables], entities * names_each
    pairs = list(combinations(range(syllables), 2))
    # Every pair forbids the triples around it; a fifth of all pairs leaves half of the triples.
    short = {pairs[i] for i in rng.permutation(len(pairs))[: min(needed // 2, len(pairs) // 5)]}
    triples = [t for t in combinations(range(syllables), 3) if not any(pair in short for pair in combinations(t, 2))]
    if len(short) + len(triples) < needed:
        raise UserError(
            f"{syllables} syllables give {len(short) + len(triples)} names, not the {needed} that {entities} entities "
            "need; raise name_syllables."
        )
    chosen = [triples[i] for i in rng.permutation(len(triples))[: needed - len(short)]]
    members = sorted(short) + chosen
    names = [" ".join(pool[j] for j in rng.permutation(members[i])) for i in rng.permutation(needed)]
    return [tuple(names[first : first + names_each]) for first in range(0, needed, names_each)]


def _facts(
    names: Sequence[str], relations: int, values: int, mode_share: float, syllables: int, seed: int
) -> dict[str, dict[str, str]]:
    """The value of every name and relation."""
    rng = generator("search world", seed, "facts")
    pool = _closed_syllables()[:syllables]
    pairs = list(combinations(range(syllables), 2))
    drawn = [" ".join(pool[j] for j in rng.permutation(pairs[i])) for i in rng.permutation(len(pairs))]
    # The first value of a relation is the frequent one; the values were drawn, so it is any.
    share = np.array([mode_share] + [(1 - mode_share) / (values - 1)] * (values - 1))
    index = rng.choice(values, size=(len(names), relations), p=share / share.sum())
    return {
        name: {RELATIONS[r]: drawn[r * values + int(index[n, r])] for r in range(relations)}
        for n, name in enumerate(names)
    }


def _friends(names: Sequence[str], seed: int) -> dict[str, str]:
    """For every name the name of another entity of its split."""
    rng = generator("search world", seed, "friends")
    members = {split: [name for name in names if split_of(name) == split] for split in SPLITS}
    for split, inside in members.items():
        if len(inside) == 1:
            raise UserError(f"The only entity of the {split} split has no friend; raise entities or change the seed.")
    friends = {}
    for name in names:
        others = [other for other in members[split_of(name)] if other != name]
        friends[name] = others[int(rng.integers(len(others)))]
    return friends


def _documents(
    named: Sequence[tuple[str, ...]],
    value_of: Mapping[str, Mapping[str, str]],
    friend_of: Mapping[str, str],
    facts_per_document: int,
    seed: int,
) -> tuple[tuple[Document, ...], dict[tuple[str, str], str]]:
    """The documents, and for every fact, a name and a relation, the id of its document."""
    rng = generator("search world", seed, "documents")
    documents: list[Document] = []
    source: dict[tuple[str, str], str] = {}
    for name, *others in named:
        facts = {**value_of[name], **({FRIEND: friend_of[name]} if friend_of else {})}
        relations = [list(facts)[i] for i in rng.permutation(len(facts))]
        for first in range(0, len(relations), facts_per_document):
            here = relations[first : first + facts_per_document]
            id = f"{name.replace(' ', '-')}/{first // facts_per_document}"
            documents.append(
                Document(id, name, " . ".join(f"{name} {relation} {facts[relation]}" for relation in here))
            )
            source.update({(name, relation): id for relation in here})
        for alias in others:
            source[alias, SAME] = f"{alias.replace(' ', '-')}/0"
            documents.append(Document(source[alias, SAME], alias, f"{alias} {SAME} {name}"))
    return tuple(documents), source


def _questions(
    named: Sequence[tuple[str, ...]],
    value_of: Mapping[str, Mapping[str, str]],
    friend_of: Mapping[str, str],
    source: Mapping[tuple[str, str], str],
    seed: int,
) -> Iterable[Question]:
    rng = generator("search world", seed, "questions")
    for name, *others in named:
        for relation in value_of[name]:
            for way in ((), (FRIEND,)) if friend_of else ((),):
                use_alias = bool(others) and rng.random() < 0.5
                called = others[int(rng.integers(len(others)))] if use_alias else name
                keys = [(called, SAME)] if use_alias else []
                keys += [(name, step) for step in way]
                keys.append((friend_of[name] if way else name, relation))
                yield Question(
                    id="/".join((name.replace(" ", "-"), *way, relation)),
                    text=" ".join((relation, *way, called)),
                    answers=(value_of[keys[-1][0]][relation],),
                    split=split_of(name),
                    query=" ".join(keys[0]),
                    hops=len(keys),
                    gold=tuple(source[key] for key in keys),
                )


def _guesses(questions: Sequence[Question], value_of: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    train = [facts for name, facts in value_of.items() if split_of(name) == "train"]
    frequent = {relation: Counter(facts[relation] for facts in train).most_common(1)[0][0] for relation in train[0]}
    return {question.id: frequent[question.text.split()[0]] for question in questions}
