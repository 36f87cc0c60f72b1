"""What is indexed once for all games: the tool's results, gold queries, and what guessers and readers know."""

import time
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.core.storage import canonical_json
from lapwing.core.types import ToolCall, ToolResult
from lapwing.games.search.source import NOTHING_FOUND, Source, kind, query_of, shown
from lapwing.games.search.world import Document, Question, make_world

DOCUMENTS = (
    Document("a", "France", "The capital of France is Paris."),
    Document("b", "Rome", "Capital of Italy, on the Tiber."),
    Document("c", "", "Lyon is a city of France"),
)


def question(id, text, answer, split="train", query=""):
    return Question(id, text, (answer,) if isinstance(answer, str) else answer, split, query)


# "capital" has Paris twice and Rome once; "river" has Tiber once, and "city" Lyon in the test split only.
QUESTIONS = (
    question("1", "capital of France?", "Paris", query="capital France"),
    question("2", "capital with the Louvre?", ("Paris", "City of Light"), query="capital"),
    question("3", "capital of Italy?", "Rome", query="capital Italy"),
    question("4", "river in Rome?", "Tiber", query="river Rome"),
    question("5", "city on the Rhône?", "Lyon", "test", query="city Rhône"),
    question("6", "capital of Spain?", "Madrid", "development"),
)


@pytest.fixture(scope="module")
def source():
    return Source(DOCUMENTS, QUESTIONS)


WORLDS = {
    "one hop": {},
    "two hops": {"hops": 2},
    "aliases": {"aliases": 2},
    "facts": {"facts_per_document": 3},
    "all": {"hops": 2, "aliases": 1, "facts_per_document": 3},
}


@lru_cache
def world_source(name):
    world = make_world(entities=60, **WORLDS[name])
    values = frozenset(answer for asked in world.questions for answer in asked.answers)
    return world, Source(world.documents, world.questions, values=values, guess=world.guess, words=world.words)


def search(source, query, top_k=1):
    return source.toolbox(top_k).call(ToolCall("search", canonical_json(query)))


# ---------------------------------------------------------------------------------------------------------------------
# Splits and results.


@pytest.mark.parametrize(("documents", "questions"), [((), QUESTIONS), (DOCUMENTS, ()), ((), ())])
def test_nothing_to_ask_or_to_find_is_refused(documents, questions):
    with pytest.raises(UserError, match="at least one document and one question"):
        Source(documents, questions)


def test_the_questions_of_each_split(source):
    ids = {split: [q.id for q in source.asked(split)] for split in ("all", "train", "development", "test")}
    assert ids == {"all": list("123456"), "train": list("1234"), "development": ["6"], "test": ["5"]}


def test_a_split_without_questions_is_refused():
    with pytest.raises(UserError, match="No question is in the split 'test'; give the questions a field 'split'"):
        Source(DOCUMENTS, QUESTIONS[:4]).asked("test")


@pytest.mark.parametrize(
    ("title", "text", "expected"),
    [
        ("Rome", "Capital of Italy", "Rome . Capital of Italy"),
        ("Rome", "ROME is old", "ROME is old"),
        ("", "Rome", "Rome"),
        ("Rome", "", "Rome . "),
    ],
)
def test_a_result_shows_the_title_where_the_text_does_not(title, text, expected):
    assert shown(Document("x", title, text)) == expected


def test_the_tool_returns_the_best_documents_best_first(source):
    assert search(source, "Tiber") == ToolResult("ok", "Rome . Capital of Italy, on the Tiber.")
    # Both words are in the first; each of the others has one, and the shorter of them comes first.
    first, second, third = "The capital of France is Paris.", "Lyon is a city of France", shown(DOCUMENTS[1])
    assert search(source, "capital France", 3) == ToolResult("ok", f"{first} . {second} . {third}")
    assert search(source, "capital France", 2) == ToolResult("ok", f"{first} . {second}")
    assert search(source, "capital France") == ToolResult("ok", first)
    assert search(source, "zebra") == search(source, "") == ToolResult("ok", NOTHING_FOUND)
    assert search(source, ["zebra"]).status == "error"


def test_there_is_one_toolbox_for_each_number_of_documents(source):
    assert source.toolbox(2) is source.toolbox(2)
    assert source.toolbox(1).names == source.toolbox(2).names == ("search",)


@pytest.mark.parametrize("name", WORLDS)
def test_the_gold_queries_find_the_gold_documents_and_the_last_holds_the_answer(name):
    # Fails when a hop asks for the relation of the question instead of the friend, or the other way round.
    world, source = world_source(name)
    documents = {document.id: document for document in world.documents}
    hops = Counter()
    for asked in world.questions:
        queries = source.queries(asked)
        assert [search(source, query).text for query in queries] == [documents[gold].text for gold in asked.gold]
        assert source.read(asked, search(source, queries[-1]).text) == asked.answers[0]
        hops[len(queries)] += 1
    assert set(hops) == {"one hop": {1}, "two hops": {1, 2}, "aliases": {1, 2}, "facts": {1}, "all": {1, 2, 3}}[name]


def test_a_question_without_a_query_has_none_to_ask(source):
    assert source.queries(QUESTIONS[0]) == ("capital France",)
    assert source.queries(QUESTIONS[5]) == ()


@pytest.mark.parametrize("name", WORLDS)
def test_the_words_are_those_of_everything_that_is_read_or_written(name):
    world, source = world_source(name)
    texts = [shown(document) for document in world.documents]
    for asked in world.questions:
        texts += [asked.text, *asked.answers, *source.queries(asked), source.guess(asked)]
    assert {word for text in texts for word in text.split()} <= source.words
    # Found from the texts, they are the same.
    assert Source(world.documents, world.questions).words == source.words


# ---------------------------------------------------------------------------------------------------------------------
# What is known without a search.


def test_the_guess_is_the_most_frequent_answer_of_training_questions_that_begin_alike(source):
    assert [source.guess(q) for q in QUESTIONS] == ["Paris", "Paris", "Paris", "Tiber", "Paris", "Paris"]


def test_of_a_question_like_no_other_the_guess_is_the_most_frequent_answer_of_all():
    # Three kinds of one question each say "no" more often than the answer that three of four questions of a kind have.
    asked = [question(f"w{i}", "who did it?", "Bob") for i in range(3)]
    asked += [question("x", "what?", "no"), question("y", "when?", "no"), question("z", "where?", "hill")]
    assert Source(DOCUMENTS, asked).guess(question("n", "why?", "because")) == "Bob"


def test_a_guess_that_was_given_goes_before_one_that_was_counted():
    source = Source(DOCUMENTS, QUESTIONS, guess={"1": "Nice"})
    assert [source.guess(q) for q in QUESTIONS[:2]] == ["Nice", "Paris"]


def test_an_answer_is_drawn_as_often_as_it_is_right(source):
    # Fails when the answers of held-out questions are drawn too.
    drawn = Counter(source.drawn_answer(QUESTIONS[5], generator("drawn", i)) for i in range(3000))
    assert set(drawn) == {"Paris", "Rome"}
    assert abs(drawn["Paris"] / 3000 - 2 / 3) < 5 * np.sqrt(2 / 9 / 3000)
    unlike = Counter(source.drawn_answer(QUESTIONS[4], generator("unlike", i)) for i in range(500))
    assert set(unlike) == {"Paris", "Rome", "Tiber"}


@pytest.mark.parametrize("name", WORLDS)
def test_another_query_is_one_of_another_training_question_and_none_of_its_own(name):
    # Fails when the question itself is drawn, or one with the same first hop.
    world, source = world_source(name)
    train = {query for q in source.asked("train") for query in source.queries(q)}
    for number, asked in enumerate(world.questions[::17]):
        own = source.queries(asked)
        for hop in range(len(own)):
            others = {source.other_query(asked, hop, generator(name, number, hop, i)) for i in range(20)}
            assert others <= train - set(own)
            assert len(others) > 10


def test_another_query_of_few_questions_is_still_another(source):
    for number in range(50):
        assert source.other_query(QUESTIONS[0], 0, generator("few", number)) in {
            "capital",
            "capital Italy",
            "river Rome",
        }
    alone = Source(DOCUMENTS, [QUESTIONS[0]])
    assert alone.other_query(QUESTIONS[0], 0, generator("alone")) == "capital of France?"


# ---------------------------------------------------------------------------------------------------------------------
# Reading.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The capital of France is Paris.", "Paris"),  # the point at the end is no part of the word
        ("the CITY OF LIGHT it is called", "City of Light"),
        ("Parisian habits", None),
        ("Rome . capital: Paris", "Paris"),
        ("", None),
        (NOTHING_FOUND, None),
        ("...", None),
    ],
)
def test_a_reader_finds_an_answer_as_the_field_compares_it(source, text, expected):
    asked = question("2", "capital with the Louvre?", ("Paris", "City of Light", "..."))
    assert source.read(asked, text) == expected


def test_a_reader_of_a_world_reads_the_relation_and_otherwise_any_value():
    world, _ = world_source("one hop")
    asked = next(q for q in world.questions if q.text.startswith("home "))
    home, craft = (sorted({q.answers[0] for q in world.questions if kind(q) == name}) for name in ("home", "craft"))
    values = frozenset([*home, *craft])
    source = Source(world.documents, world.questions, values=values)
    wrong = next(value for value in home if value != asked.answers[0])
    assert source.read(asked, f"ka lo craft {craft[0]} . ka lo home {wrong}") == wrong
    assert source.read(asked, f"ka lo craft {craft[0]}") == craft[0]
    assert source.read(asked, f"ka lo craft {craft[0]}x") is None
    assert source.read(asked, f"ka lo home {asked.answers[0]} . ka lo craft {craft[0]}") == asked.answers[0]


@pytest.mark.parametrize(("text", "expected"), [("home ka lo", "home"), (" Who is it?", "Who"), ("", ""), ("  ", "")])
def test_questions_are_alike_by_their_first_word(text, expected):
    assert kind(question("1", text, "x")) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('"ka lo home"', "ka lo home"),
        ('{"query":" ka  lo\\nhome "}', "ka lo home"),
        ('{"query": 5}', ""),
        ('{"town": "ka"}', ""),
        ("[1]", ""),
        ("5", ""),
        ("{", ""),
        ("", ""),
        ("9" * 5000, ""),
        ("[" * 100_000, ""),
    ],
)
def test_the_query_of_a_call_is_what_was_asked(arguments, expected):
    assert query_of(ToolCall("search", arguments)) == expected


def test_many_questions_that_begin_alike_are_indexed_quickly():
    # Fails when the list of questions that are alike is made anew for each.
    asked = [question(str(i), "what is it?", str(i % 7)) for i in range(50_000)]
    began = time.process_time()
    source = Source(DOCUMENTS, asked)
    assert source.guess(asked[0]) == "0"
    assert time.process_time() - began < 2
