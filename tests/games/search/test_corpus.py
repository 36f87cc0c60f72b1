import json
import sys
import types
from collections import Counter

import pytest

from lapwing.core.errors import UserError
from lapwing.games.search.corpus import HUB, read_corpus, read_dataset, read_questions
from lapwing.games.search.world import Document, Question, make_world, split_of


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


# ---------------------------------------------------------------------------------------------------------------------
# Documents.


def test_documents_come_in_the_order_of_the_file(tmp_path):
    path = write(
        tmp_path / "corpus.jsonl",
        {"id": "d2", "title": "Paris", "text": "Paris is the capital.", "url": "ignored"},
        {"id": 7, "text": "no title"},
        {"id": "d3", "contents": '"Lyon"\nLyon is a city.\nIt is old.'},
        {"id": "d4", "contents": "plain\ntext"},
        {"id": "d5", "title": "given", "contents": '"quoted"\nstays'},
        {"id": "d6", "text": "text wins", "contents": "not read"},
        {"id": "d7", "title": None, "text": ""},
    )
    assert read_corpus(path) == (
        Document("d2", "Paris", "Paris is the capital."),
        Document("7", "", "no title"),
        Document("d3", "Lyon", "Lyon is a city.\nIt is old."),
        Document("d4", "", "plain\ntext"),
        Document("d5", "given", '"quoted"\nstays'),
        Document("d6", "", "text wins"),
        Document("d7", "", ""),
    )
    assert read_corpus(str(path)) == read_corpus(path)


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_do_no_harm(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": 1, "text": "a"}\r\n\r\n  \n{"id": 2, "text": "\xc3\xa9"}')
    assert read_corpus(path) == (Document("1", "", "a"), Document("2", "", "é"))


def test_halves_of_surrogate_pairs_are_replaced(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"id": "1", "text": "a\\ud800b \\ud83d\\ude00"}\n')
    (document,) = read_corpus(path)
    assert document.text == "a?b 😀"
    document.text.encode("utf-8")


GOOD = b'{"id": "1", "text": "a"}\n'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"corpus.jsonl holds no documents; give one JSON object a line, with the fields id, title and text"),
        (b"\n \n", "holds no documents"),
        (GOOD + b"{", r"corpus.jsonl, line 2 is not JSON \(Expecting property name .* at column 2\)"),
        (GOOD + b'\n{"id": "2"}', "line 3 has no field 'text' with a text; its fields are: id"),
        (GOOD + b'{"text": "b"}', "line 2 has no field 'id' with a text; its fields are: text"),
        (GOOD + b'{"id": " ", "text": "b"}', "line 2 has no field 'id'"),
        (GOOD + b'{"id": true, "text": "b"}', "line 2: the field 'id' is a text, not true"),
        (GOOD + b'{"id": "2", "text": ["b"]}', r"line 2: the field 'text' is a text, not \[\"b\"\]"),
        (GOOD + b'{"id": "2", "contents": ""}', "line 2 has no field 'contents' with a text"),
        (GOOD * 2, 'line 2: the document "1" was already in corpus.jsonl, line 1; give every one its own id'),
        (GOOD + b'{"id": 1, "text": "b"}', 'line 2: the document "1" was already in'),
        (GOOD + b'"text"', 'line 2 is no JSON object but "text"; give every row as an object'),
        (GOOD + b"[1]", r"line 2 is no JSON object but \[1\]"),
        (GOOD + b'{"id": "\xff"}', "line 2 is not UTF-8 text at byte 9; write the file as UTF-8"),
        (GOOD + b"[" * 100_000, "line 2 is nested too deeply"),
        (GOOD + b"9" * 5_000, "line 2 is not JSON"),
        (b"\x1f\x8b\x08\x00", "line 1 is not UTF-8"),
    ],
)
def test_a_broken_corpus_is_refused_with_file_and_line(tmp_path, data, message):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as refused:
        read_corpus(path)
    assert len(str(refused.value)) < 400


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"absent.jsonl could not be read: No such file"):
        read_corpus(tmp_path / "absent.jsonl")
    with pytest.raises(UserError, match=r"could not be read: Is a directory"):
        read_questions(tmp_path)
    (tmp_path / "train.json").mkdir()
    with pytest.raises(UserError, match=r"train.json could not be read: Is a directory"):
        read_dataset(tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# Questions.


def test_answers_are_read_from_every_documented_field(tmp_path):
    path = write(
        tmp_path / "questions.jsonl",
        {"id": "q1", "question": "a?", "answers": ["Paris", "", "City", "Paris"], "split": "train"},
        {"id": "q2", "question": "b?", "golden_answers": ["Rome"], "split": "dev"},
        {"id": "q3", "question": "c?", "answer": "Madrid", "aliases": ["Villa", "Madrid"], "split": "validation"},
        {"id": 4, "question": "d?", "answer": 42, "split": "test", "query": "d"},
        {"id": "q5", "question": "e?", "answers": "one", "answer": "not read", "split": "test"},
    )
    assert read_questions(path) == (
        Question("q1", "a?", ("Paris", "City"), "train"),
        Question("q2", "b?", ("Rome",), "development"),
        Question("q3", "c?", ("Madrid", "Villa"), "development"),
        Question("4", "d?", ("42",), "test", query="d"),
        Question("q5", "e?", ("one",), "test"),
    )


def test_questions_without_a_split_are_divided_by_a_hash_of_their_id(tmp_path):
    rows = [{"id": f"q{n}", "question": "?", "answer": "x"} for n in range(2000)]
    read = read_questions(write(tmp_path / "q.jsonl", *rows))
    assert all(question.split == split_of(question.id) for question in read)
    share = Counter(question.split for question in read)
    # Four standard errors of a share of 0.7 over 2,000: 0.041.
    assert share["train"] / 2000 == pytest.approx(0.7, abs=0.041)
    assert share["test"] / 2000 == pytest.approx(0.2, abs=0.036)
    more = read_questions(write(tmp_path / "q.jsonl", *rows[::-1], {"id": "new", "question": "?", "answer": "x"}))
    assert {q.id: q.split for q in read}.items() <= {q.id: q.split for q in more}.items()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "q", "answer": "x"}, "line 2 has no field 'question' with a text; its fields are: answer, id"),
        ({"question": "?", "answer": "x"}, "line 2 has no field 'id'"),
        ({"id": "q", "question": "?"}, "line 2 has no answer; give a field 'answers' with a list of texts"),
        ({"id": "q", "question": "?", "answers": []}, "line 2 has no answer"),
        ({"id": "q", "question": "?", "answers": ["", " "]}, "line 2 has no answer"),
        ({"id": "q", "question": "?", "answers": {"a": 1}}, "line 2: the field 'answers' is a text or a list of texts"),
        ({"id": "q", "question": "?", "answers": [["a"]]}, r"a list of texts, not \[\[\"a\"\]\]"),
        ({"id": "q", "question": "?", "answer": "a", "aliases": [None]}, "'aliases' is a text or a list of texts"),
        (
            {"id": "q", "question": "?", "answer": "a", "split": "trian"},
            'line 2: there is no split "trian"; did you mean train',
        ),
        ({"id": "q1", "question": "?", "answer": "a"}, 'line 2: the question "q1" was already in q.jsonl, line 1'),
    ],
)
def test_a_broken_question_is_refused_with_file_and_line(tmp_path, row, message):
    path = write(tmp_path / "q.jsonl", {"id": "q1", "question": "?", "answer": "x"}, row)
    with pytest.raises(UserError, match=message):
        read_questions(path)


def test_a_file_without_questions_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"q.jsonl holds no questions"):
        read_questions(write(tmp_path / "q.jsonl"))


def test_a_generated_world_survives_being_written_and_read(tmp_path):
    world = make_world(entities=40)
    documents = write(tmp_path / "c.jsonl", *({"id": d.id, "title": d.title, "text": d.text} for d in world.documents))
    questions = write(
        tmp_path / "q.jsonl",
        *({"id": q.id, "question": q.text, "answers": q.answers, "split": q.split} for q in world.questions),
    )
    assert read_corpus(documents) == world.documents
    assert [(q.id, q.text, q.answers, q.split) for q in read_questions(questions)] == [
        (q.id, q.text, q.answers, q.split) for q in world.questions
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Data sets, in the columns in which the hub has them.


def trivia(id="tc_1", value="Sinclair Lewis", pages=(("Lewis", "An author."),), found=(("Nobel", "A prize."),)):
    return {
        "question": "Which American won the Nobel Prize?",
        "question_id": id,
        "question_source": "http://www.example.org/",
        "entity_pages": {
            "doc_source": ["TagMe"] * len(pages),
            "filename": ["x.txt"] * len(pages),
            "title": [title for title, _ in pages],
            "wiki_context": [text for _, text in pages],
        },
        "search_results": {
            "description": [""] * len(found),
            "filename": ["1/1_1.txt"] * len(found),
            "rank": list(range(len(found))),
            "title": [title for title, _ in found],
            "url": ["http://example.org"] * len(found),
            "search_context": [text for _, text in found],
        },
        "answer": {
            "aliases": ["Lewis, Sinclair", value],
            "normalized_aliases": ["lewis sinclair"],
            "matched_wiki_entity_name": "",
            "normalized_matched_wiki_entity_name": "",
            "normalized_value": value.lower(),
            "type": "WikipediaEntity",
            "value": value,
        },
    }


def hotpot(id="5a7a", answer="yes", facts=(("B", 0), ("A", 0), ("B", 1))):
    return {
        "id": id,
        "question": "Were both of them born?",
        "answer": answer,
        "type": "comparison",
        "level": "hard",
        "supporting_facts": {"title": [title for title, _ in facts], "sent_id": [number for _, number in facts]},
        "context": {
            "title": ["A", "B", "C"],
            "sentences": [["A was born.", " In 1900."], ["B was born. ", "In 1901."], ["C was not."]],
        },
    }


def test_trivia_qa_by_hand(tmp_path):
    documents, questions = read_dataset(write(tmp_path / "rows.jsonl", trivia()))
    assert [(d.title, d.text) for d in documents] == [("Lewis", "An author."), ("Nobel", "A prize.")]
    assert len({d.id for d in documents}) == 2
    (question,) = questions
    assert question == Question(
        "tc_1",
        "Which American won the Nobel Prize?",
        ("Sinclair Lewis", "Lewis, Sinclair", "lewis sinclair"),
        split_of("tc_1"),
    )


def test_hotpot_qa_by_hand(tmp_path):
    documents, (question,) = read_dataset(write(tmp_path / "rows.jsonl", hotpot()))
    assert [(d.title, d.text) for d in documents] == [
        ("A", "A was born. In 1900."),
        ("B", "B was born. In 1901."),
        ("C", "C was not."),
    ]
    # The facts name B, A and again B.
    assert question.gold == (documents[1].id, documents[0].id)
    assert (question.hops, question.answers, question.query) == (2, ("yes",), "")


def test_lists_of_objects_are_as_good_as_objects_of_lists(tmp_path):
    row = hotpot()
    other = {
        **row,
        "context": [{"title": t, "sentences": s} for t, s in zip(*row["context"].values(), strict=True)],
        "supporting_facts": [{"title": "B", "sent_id": 0}, {"title": "A", "sent_id": 0}],
    }
    expected = read_dataset(write(tmp_path / "a.jsonl", row))
    assert read_dataset(write(tmp_path / "b.jsonl", other)) == expected
    array = tmp_path / "c.json"
    array.write_text(json.dumps([row]))
    assert read_dataset(array) == expected


def test_equal_documents_are_one_and_a_question_is_asked_once(tmp_path):
    rows = [
        trivia("a", pages=[("P", "same"), ("Empty", " ")], found=[]),
        trivia("b", pages=[("P", "same"), ("P", "other")], found=[]),
        trivia("a", value="other", pages=[], found=[("Q", "of the web half")]),
    ]
    documents, questions = read_dataset(write(tmp_path / "rows.jsonl", *rows))
    assert [(d.title, d.text) for d in documents] == [("P", "same"), ("P", "other"), ("Q", "of the web half")]
    assert [(q.id, q.answers[0]) for q in questions] == [("a", "Sinclair Lewis"), ("b", "Sinclair Lewis")]


def test_the_splits_of_a_folder_are_the_beginnings_of_its_files(tmp_path):
    write(tmp_path / "train-00000-of-00002.jsonl", *(trivia(f"a{n}") for n in range(5)))
    write(tmp_path / "train-00001-of-00002.jsonl", *(trivia(f"b{n}") for n in range(5)))
    write(tmp_path / "validation-00000.jsonl", *(trivia(f"v{n}") for n in range(300)))
    # Test answers are not published; the documents are searched all the same.
    unknown = trivia("t0", value="<unk>", pages=[("T", "of a test question")])
    unknown["answer"]["aliases"] = unknown["answer"]["normalized_aliases"] = []
    write(tmp_path / "test-00000.jsonl", unknown)
    (tmp_path / "README.md").write_text("not read")
    documents, questions = read_dataset(tmp_path)
    assert {q.id[0]: q.split for q in questions if q.id[0] in "ab"} == {"a": "train", "b": "train"}
    held_out = Counter(q.split for q in questions if q.id[0] == "v")
    # Four standard errors of a third of 300: 33.
    assert held_out["train"] == 0
    assert held_out["development"] == pytest.approx(100, abs=33)
    assert held_out["test"] == 300 - held_out["development"]
    assert "T" in {d.title for d in documents}
    assert "t0" not in {q.id for q in questions}

    write(tmp_path / "test-00000.jsonl", trivia("t0"))
    _, questions = read_dataset(tmp_path)
    assert {q.id[0]: q.split for q in questions} == {"a": "train", "b": "train", "v": "development", "t": "test"}


def test_one_split_is_divided_by_a_hash(tmp_path):
    _, questions = read_dataset(write(tmp_path / "train.jsonl", *(trivia(f"a{n}") for n in range(60))))
    assert {q.split for q in questions} == {"train", "development", "test"}
    assert all(q.split == split_of(q.id) for q in questions)


def test_a_limit_is_for_each_split(tmp_path):
    write(tmp_path / "train.jsonl", *(trivia(f"a{n}") for n in range(9)))
    write(tmp_path / "dev.jsonl", *(trivia(f"v{n}") for n in range(9)))
    _, questions = read_dataset(tmp_path, limit=2)
    assert [q.id for q in questions] == ["v0", "v1", "a0", "a1"]
    with pytest.raises(UserError, match="limit is a number of rows of at least 1, not 0"):
        read_dataset(tmp_path, limit=0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"id": "q", "question": "?"},
            "line 1 has neither 'context' .* its fields are: id, question",
        ),
        ({**trivia(), "question_id": None}, "line 1 has no field 'question_id' with a text"),
        ({**trivia(), "answer": "x"}, "line 1: the field 'answer' holds value and aliases, not \"x\""),
        (
            {**trivia(), "entity_pages": {"title": ["a"]}},
            "'entity_pages' has no lists title and wiki_context of",
        ),
        ({**trivia(), "entity_pages": {"title": ["a"], "wiki_context": []}}, "'entity_pages' has no lists"),
        ({**hotpot(), "context": [["A", ["a"]]]}, "'context' has no lists title and sentences of one length"),
        ({**hotpot(), "context": {"title": ["A"], "sentences": [[1, {}]]}}, "'sentences' is a text or a list of texts"),
        ({**hotpot(), "supporting_facts": 3}, "'supporting_facts' has no lists"),
        ({**hotpot(), "answer": ""}, "holds no questions with answers"),
        (trivia(pages=(("a", ""),), found=()), "holds no documents"),
    ],
)
def test_a_broken_row_is_refused_with_file_and_line(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        read_dataset(write(tmp_path / "rows.jsonl", row))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", r"rows.json is no JSON array but \{\}"),
        ("[1]", "rows.json, row 1 is no JSON object but 1"),
        ("[", "rows.json is not JSON"),
    ],
)
def test_a_broken_array_is_refused(tmp_path, text, message):
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_dataset(tmp_path / "rows.json")


def test_a_data_set_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match="no data set 'trivia-qa' and no such file or folder; did you mean trivia"):
        read_dataset("trivia-qa")
    with pytest.raises(UserError, match=r"holds no file .jsonl, .json or .parquet"):
        read_dataset(tmp_path)


def test_without_the_package_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"'hotpot_qa' needs a package: pip install 'lapwing\[datasets\]'"):
        read_dataset("hotpot_qa")
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"'train.parquet' needs a package"):
        read_dataset(tmp_path)


def install(monkeypatch, load):
    """Put a function in the place of the package, which needs the network."""
    package = types.ModuleType("datasets")
    package.load_dataset = load
    monkeypatch.setitem(sys.modules, "datasets", package)


def test_an_id_of_the_hub_is_asked_for_with_its_configuration(monkeypatch):
    asked = []

    def load(*address, **settings):
        asked.append((address, settings))
        return {"train": [hotpot("a")], "validation": [hotpot(f"v{n}", answer="no") for n in range(30)]}

    install(monkeypatch, load)
    documents, questions = read_dataset("hotpot_qa")
    assert asked == [(HUB["hotpot_qa"], {})]
    assert len(documents) == 3
    assert {q.split for q in questions if q.answers == ("no",)} == {"development", "test"}
    assert questions[0].split == "train"

    install(monkeypatch, lambda *address, **settings: {"train": [hotpot(), {"id": "b"}]})
    with pytest.raises(UserError, match="trivia_qa, train, row 2 has neither"):
        read_dataset("trivia_qa")


def test_parquet_is_read_by_the_package(tmp_path, monkeypatch):
    file = tmp_path / "validation-0.parquet"
    file.write_bytes(b"PAR1")
    write(tmp_path / "train.jsonl", hotpot("a"))
    asked = []

    def load(*address, **settings):
        asked.append((address, settings))
        return {"train": [hotpot("v")]}  # the package calls the rows of any file so

    install(monkeypatch, load)
    _, questions = read_dataset(tmp_path)
    assert asked == [(("parquet",), {"data_files": str(file)})]
    assert {q.id: q.split for q in questions}["a"] == "train"
    assert {q.id: q.split for q in questions}["v"] in {"development", "test"}


def test_what_the_package_cannot_load_is_said_in_one_line(monkeypatch):
    def load(*address, **settings):
        raise ConnectionError("no route\nto host")

    install(monkeypatch, load)
    with pytest.raises(UserError, match=r"'trivia_qa' could not be loaded \(no route\); name a local copy"):
        read_dataset("trivia_qa")
