"""Documents and questions from files, and from data sets of the question answering field."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from lapwing.core.errors import UserError, nearest
from lapwing.games.search._rows import Row, clean, read_array, read_lines, shown
from lapwing.games.search.world import SPLITS, Document, Question, split_of

# Name of the data set → its id on the hub and its configuration.
HUB = {"trivia_qa": ("mandarjoshi/trivia_qa", "rc"), "hotpot_qa": ("hotpotqa/hotpot_qa", "distractor")}
_OTHER_NAMES = {"dev": "development", "valid": "development", "validation": "development"}
_NO_ANSWER = "<unk>"  # stands for the answers of TriviaQA's test questions, which are not published


def read_corpus(path: str | Path) -> tuple[Document, ...]:
    r"""Read documents from a JSONL file in UTF-8, one object a line.

        {"id": "d1", "title": "Paris", "text": "Paris is the capital of France."}
        {"id": "d2", "contents": "\"Lyon\"\nLyon is a city in France."}

    `id` is a text or a whole number and unique, `text` the passage, `title` may be left out. Where there is no
    `text`, `contents` stands for it; if its first line is in double quotes, as in the corpora of Search-R1, this is
    the title. Other fields are passed over.

    Args:
      path: the file; all of it is held in memory.

    Returns:
      The documents in the order of the file.

    Raises:
      UserError: the file cannot be read or is empty, a line is no JSON object, a field is missing or no text, or an
        id occurs twice; the sentence names file and line.
    """
    path = Path(path)
    documents: list[Document] = []
    seen: dict[str, str] = {}
    for row in read_lines(path):
        documents.append(_document(row))
        _once(documents[-1].id, row.where, seen, "document")
    if not documents:
        raise UserError(f"{path} holds no documents; give one JSON object a line, with the fields id, title and text.")
    return tuple(documents)


def read_questions(path: str | Path) -> tuple[Question, ...]:
    """Read questions from a JSONL file in UTF-8, one object a line.

        {"id": "q1", "question": "capital of France?", "answers": ["Paris", "City of Light"], "split": "train"}
        {"id": "q2", "question": "capital of Italy?", "golden_answers": ["Rome"]}
        {"id": "q3", "question": "capital of Spain?", "answer": "Madrid", "aliases": ["Villa de Madrid"]}

    `id` is a text or a whole number and unique. The answers are the first of `answers`, `golden_answers` and `answer`
    that is there, a text or a list of texts, and then those in `aliases`; blank ones and repetitions are dropped and
    the first is the canonical one. `split` is "train", "development" (also "dev", "valid", "validation") or "test";
    questions without one are divided by a hash of their id, 14 parts of 20 train, 2 development, 4 test. `query`, the
    query that finds what is needed, may be left out.

    Args:
      path: the file; all of it is held in memory.

    Returns:
      The questions in the order of the file.

    Raises:
      UserError: the file cannot be read or is empty, a line is no JSON object, a field is missing or of another
        kind, there is no answer, or an id occurs twice; the sentence names file and line.
    """
    path = Path(path)
    questions: list[Question] = []
    seen: dict[str, str] = {}
    for row in read_lines(path):
        questions.append(_question(row))
        _once(questions[-1].id, row.where, seen, "question")
    if not questions:
        raise UserError(
            f"{path} holds no questions; give one JSON object a line, with the fields id, question and answers."
        )
    return tuple(questions)


def read_dataset(dataset: str | Path, *, limit: int | None = None) -> tuple[tuple[Document, ...], tuple[Question, ...]]:
    """Read the questions of TriviaQA or HotpotQA together with the documents that come with them.

        trivia_qa   question_id, question, answer.{value, aliases, normalized_aliases},
                    entity_pages.{title, wiki_context}[…], search_results.{title, search_context}[…]
        hotpot_qa   id, question, answer, supporting_facts.title[…], context.{title, sentences}[…]

    "trivia_qa" (configuration rc) and "hotpot_qa" (distractor) are loaded from the Hugging Face hub. Anything else is
    a local copy with these columns: a file .jsonl, .json (an array) or .parquet, or a folder of such files, whose
    split is the beginning of their name: train, validation, dev or test. The columns tell which data set it is.

    Documents with equal title and text are one; those without text are dropped. A question that occurs again, as
    those of TriviaQA do, is asked once and brings its further documents. Questions without a published answer are
    dropped, but not their documents. Of HotpotQA the documents with supporting facts are gold, in the order of the
    facts. Train stays train. The validation questions are development questions if test questions have answers;
    otherwise, as in both data sets, a hash of the id makes a third of them development and the others test. Where
    only one split has answers, or the files do not tell splits, a hash of the id divides all, as `read_questions`
    does.

    The hub and Parquet need the package `datasets`. Tests read local JSON files, and replace the package for the
    rest: loading from the hub itself has not been run.

    Reference: Joshi et al. 2017, "TriviaQA". https://arxiv.org/abs/1705.03551; Yang et al. 2018, "HotpotQA".
      https://arxiv.org/abs/1809.09600

    Args:
      dataset: "trivia_qa", "hotpot_qa", or the path of a local copy.
      limit: read at most so many rows of each split; None reads all. The whole of TriviaQA has several gigabytes.

    Returns:
      Documents and questions, in the order in which they come.

    Raises:
      UserError: there is no such data set, the package is missing, a row has not the columns, or nothing is left.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit is a number of rows of at least 1, not {limit}.")
    documents: dict[str, Document] = {}
    asked: dict[str, tuple[str, Question]] = {}
    for split, rows in _splits_of(dataset).items():
        for row in islice(rows, limit):
            question, with_it = _converted(row)
            documents.update((document.id, document) for document in with_it if document.text)
            if question.answers:
                asked.setdefault(question.id, (split, question))
    if not asked or not documents:
        missing = "documents" if asked else "questions with answers"
        raise UserError(f"'{dataset}' holds no {missing}; choose a copy that does.")
    names = {split for split, _ in asked.values()}
    questions = [_in_split(question, split, names) for split, question in asked.values()]
    return tuple(documents.values()), tuple(questions)


def _once(id: str, where: str, seen: dict[str, str], kind: str) -> None:
    if id in seen:
        raise UserError(f"{where}: the {kind} {shown(id)} was already in {seen[id]}; give every one its own id.")
    seen[id] = where


def _document(row: Row) -> Document:
    text, title = row.text("text"), row.text("title") or ""
    if text is None:
        text = row.needed("contents") if "contents" in row.value else row.needed("text")
        first, _, rest = text.partition("\n")
        first = first.strip()
        if not title and len(first) > 2 and first[0] == first[-1] == '"':
            title, text = first[1:-1], rest
    return Document(row.needed("id"), title, text)


def _question(row: Row) -> Question:
    id, text = row.needed("id"), row.needed("question")
    field = next((name for name in ("answers", "golden_answers", "answer") if name in row.value), "answers")
    answers = _distinct([*_texts(row, field, row.value.get(field)), *_texts(row, "aliases", row.value.get("aliases"))])
    if not answers:
        raise UserError(f"{row.where} has no answer; give a field 'answers' with a list of texts.")
    split = row.text("split")
    if split is not None:
        split = _OTHER_NAMES.get(split, split)
        if split not in SPLITS:
            raise UserError(f"{row.where}: there is no split {shown(split)}; {nearest(split, SPLITS)}")
    return Question(id, text, answers, split or split_of(id), row.text("query") or "")


def _texts(row: Row, name: str, value: Any) -> list[str]:
    """A text or a list of texts as a list; nothing where there is no value."""
    values = [] if value is None else value if isinstance(value, (list, tuple)) else [value]
    for one in values:
        if isinstance(one, bool) or not isinstance(one, (str, int, float)):
            raise UserError(f"{row.where}: the field '{name}' is a text or a list of texts, not {shown(value)}.")
    return [clean(str(one)) for one in values]


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text.strip()))


# ---------------------------------------------------------------------------------------------------------------------
# Data sets.


def _converted(row: Row) -> tuple[Question, list[Document]]:
    """The question of a row, without a split, and the documents that come with it."""
    if "context" in row.value:
        return _from_hotpot(row)
    if "entity_pages" in row.value or "search_results" in row.value:
        return _from_trivia(row)
    present = ", ".join(sorted(map(str, row.value)))[:200] or "none"
    raise UserError(
        f"{row.where} has neither 'context' (HotpotQA) nor 'entity_pages' or 'search_results' (TriviaQA); its fields "
        f"are: {present}."
    )


def _from_trivia(row: Row) -> tuple[Question, list[Document]]:
    answer = row.value.get("answer") or {}
    if not isinstance(answer, Mapping):
        raise UserError(f"{row.where}: the field 'answer' holds value and aliases, not {shown(answer)}.")
    answers = [
        text for name in ("value", "aliases", "normalized_aliases") for text in _texts(row, name, answer.get(name))
    ]
    answers = _distinct(text for text in answers if text != _NO_ANSWER)
    documents = [
        _found(title, text)
        for field, body in (("entity_pages", "wiki_context"), ("search_results", "search_context"))
        for title, text in _columns(row, field, "title", body)
    ]
    return Question(row.needed("question_id"), row.needed("question"), answers, ""), documents


def _from_hotpot(row: Row) -> tuple[Question, list[Document]]:
    documents = [
        _found(title, " ".join(sentence.strip() for sentence in _texts(row, "sentences", sentences)))
        for title, sentences in _columns(row, "context", "title", "sentences")
    ]
    by_title = {document.title: document.id for document in documents if document.text}
    facts = _columns(row, "supporting_facts", "title", "sent_id") if "supporting_facts" in row.value else []
    gold = tuple(dict.fromkeys(by_title[title] for title, _ in facts if title in by_title))
    answers = _distinct(_texts(row, "answer", row.value.get("answer")))
    question = Question(row.needed("id"), row.needed("question"), answers, "", hops=max(len(gold), 1), gold=gold)
    return question, documents


def _columns(row: Row, field: str, *names: str) -> list[tuple[Any, ...]]:
    """A field of several columns, as an object of lists or as a list of objects, in the form of tuples."""
    value = row.value.get(field)
    if value is None:
        return []
    if isinstance(value, Mapping):
        columns = [value.get(name) for name in names]
        if all(isinstance(column, (list, tuple)) for column in columns) and len(set(map(len, columns))) == 1:  # type: ignore[arg-type]
            return list(zip(*columns, strict=True))  # type: ignore[arg-type]
    elif isinstance(value, (list, tuple)) and all(isinstance(x, Mapping) and set(names) <= set(x) for x in value):
        return [tuple(x[name] for name in names) for x in value]
    raise UserError(f"{row.where}: the field '{field}' has no lists {' and '.join(names)} of one length.")


def _found(title: Any, text: Any) -> Document:
    """A document that is named by its content, because neither data set numbers them."""
    title, text = clean(str(title or "")), clean(str(text or "")).strip()
    name = hashlib.blake2b(f"{title}\0{text}".encode(), digest_size=8).hexdigest()
    return Document(name, title, text)


def _in_split(question: Question, split: str, names: set[str]) -> Question:
    if len(names) == 1 or not split:
        split = split_of(question.id)
    elif split == "development" and "test" not in names:
        number = int.from_bytes(hashlib.blake2b(question.id.encode(), digest_size=8).digest(), "little")
        split = "test" if number % 3 else "development"
    return replace(question, split=split)


def _splits_of(dataset: str | Path) -> dict[str, Iterator[Row]]:
    """The rows of each split; one without a name where the files do not tell."""
    if str(dataset) in HUB:
        name, configuration = HUB[str(dataset)]
        return _loaded(str(dataset), name, configuration)
    path = Path(dataset)
    if not path.exists():
        raise UserError(f"There is no data set '{dataset}' and no such file or folder; {nearest(str(dataset), HUB)}")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [file for file in files if file.suffix in (".json", ".jsonl", ".parquet")]
    if not files:
        raise UserError(f"{path} holds no file .jsonl, .json or .parquet; name a local copy of a data set.")
    named: dict[str, list[Path]] = {}
    for file in files:
        named.setdefault(_split_named(file), []).append(file)
    return {split: _rows_of(inside) for split, inside in named.items()}


def _split_named(file: Path) -> str:
    stem = file.name.lower()
    names = {"train": "train", "test": "test", "development": "development", **_OTHER_NAMES}
    return next((split for name, split in names.items() if stem.startswith(name)), "")


def _rows_of(files: Sequence[Path]) -> Iterator[Row]:
    for file in files:
        if file.suffix == ".parquet":
            for rows in _loaded(file.name, "parquet", data_files=str(file)).values():
                yield from rows
        else:
            yield from read_lines(file) if file.suffix == ".jsonl" else read_array(file)


def _loaded(shown_name: str, *address: str, **settings: str) -> dict[str, Iterator[Row]]:
    try:
        from datasets import load_dataset  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"'{shown_name}' needs a package: pip install 'lapwing[datasets]'") from error
    try:
        loaded: Mapping[str, Any] = load_dataset(*address, **settings)
    except (OSError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise UserError(f"'{shown_name}' could not be loaded ({first}); name a local copy, or try again.") from error
    return {
        _OTHER_NAMES.get(split, split): (
            Row(f"{shown_name}, {split}, row {number}", value) for number, value in enumerate(rows, 1)
        )
        for split, rows in loaded.items()
    }
