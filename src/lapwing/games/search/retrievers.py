"""What finds documents for a query: by words, or by the likeness of vectors."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from lapwing.core.errors import UserError
from lapwing.games.search.world import Document

# A query is what a model wrote. What is longer than this is cut: it costs time and finds nothing more.
MAX_QUERY_CHARACTERS = 2_000
_REMEMBERED = 1 << 13
_WORD = re.compile(r"\w+")

Encoder = Callable[[list[str]], Any]


_encoders: list[Callable[[str], Encoder]] = []


def provide_encoders(make: Callable[[str], Encoder]) -> None:
    """Say how an encoder is made from its name; games cannot load models themselves.

    Args:
      make: from a local folder or a hub id to the encoder.
    """
    _encoders[:] = [make]


@lru_cache(maxsize=4)
def named_encoder(name: str) -> Encoder:
    """The encoder of a name, loaded once.

    Raises:
      UserError: nobody has said how encoders are made.
    """
    if not _encoders:
        raise UserError("A game alone cannot load an encoder; call lapwing.games.search.retrievers.provide_encoders.")
    return _encoders[0](name)


class Retriever(Protocol):
    """Finds documents; safe to be asked from several threads."""

    def search(self, query: str, k: int) -> tuple[Document, ...]:
        """The at most `k` best documents, best first."""
        ...


class Bm25:
    """Ranks documents by the words that they share with the query, the rarer the better (BM25, Lucene's form).

        score = Σ over words w of the query of  ln(1 + (n − n_w + ½) / (n_w + ½)) · f_w / (f_w + k1 (1 − b + b · l / l̄))

    with n documents, n_w of them holding w, f_w occurrences in this one, l its length and l̄ the mean length in words.
    A word counts as often as the query has it. Words are runs of letters, digits and underscores in lower case; there
    is no stemming and there are no stop words. A document is its title and its text. Equal scores are in the order
    of the documents; documents without a word of the query are not found.

    Reference: Robertson, Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond"; Lù 2024, "BM25S".
      https://arxiv.org/abs/2407.03618
    """

    def __init__(self, documents: Sequence[Document], *, k1: float = 1.5, b: float = 0.75) -> None:
        """Index the documents.

        Args:
          documents: at least one.
          k1: how much further occurrences of a word add, at least 0.
          b: how much length counts against a document, in [0, 1].

        Raises:
          UserError: there are no documents, a number is out of its range, or the package `bm25s` is not installed.
        """
        _check_documents(documents)
        if not (0 <= k1 < np.inf and 0 <= b <= 1):
            raise UserError(f"BM25 takes k1 of at least 0 and b from 0 to 1, not {k1} and {b}.")
        self._documents = tuple(documents)
        texts = [_words(_content(document)) for document in documents]
        # Numbered in the order of their first occurrence: an index made from a set differs from process to process.
        self._id = {word: i for i, word in enumerate(dict.fromkeys(word for words in texts for word in words))}
        # The package has no index without a word, and nothing could be found in it.
        self._index = _bm25s(k1, b) if self._id else None
        if self._index is not None:
            ids = [[self._id[word] for word in words] for words in texts]
            self._index.index((ids, self._id), create_empty_token=False, show_progress=False)
        self._ranked = lru_cache(maxsize=_REMEMBERED)(self._rank)

    def search(self, query: str, k: int) -> tuple[Document, ...]:
        """The at most `k` best documents that share a word with the query, best first.

        Args:
          query: any text; of more than 2,000 characters the first are read.
          k: at least 1.

        Raises:
          UserError: `k` is below 1.
        """
        _check_k(k)
        known = [self._id[word] for word in _words(query[:MAX_QUERY_CHARACTERS]) if word in self._id]
        return self._ranked(tuple(sorted(known)), k)

    def _rank(self, words: tuple[int, ...], k: int) -> tuple[Document, ...]:
        if not words or self._index is None:
            return ()
        score = self._index.get_scores_from_ids(list(words))
        return tuple(self._documents[i] for i in _best(score, np.flatnonzero(score > 0), k))


class Dense:
    """Ranks documents by the cosine of the angle between their vector and the query's.

    A document is its title and its text. Equal scores are in the order of the documents. Every document has a score,
    so that a query finds `k` of them; one without a word finds none.

    Reference: Karpukhin et al. 2020, "Dense Passage Retrieval for Open-Domain Question Answering".
      https://arxiv.org/abs/2004.04906
    """

    def __init__(
        self,
        documents: Sequence[Document],
        encoder: Encoder,
        *,
        query_prefix: str = "",
        document_prefix: str = "",
        batch_size: int = 64,
    ) -> None:
        """Encode the documents.

        Args:
          documents: at least one.
          encoder: a callable from n texts to an array [n, d] of finite numbers, such as
            `lapwing.models.text_encoder.TextEncoder`; it may be called from several threads.
          query_prefix, document_prefix: what the encoder wants in front of either, such as "query: " and
            "passage: " for the E5 models.
          batch_size: documents for one call of the encoder, at least 1.

        Raises:
          UserError: there are no documents, or the encoder gives no such array.
        """
        _check_documents(documents)
        if batch_size < 1:
            raise UserError(f"batch_size is a number of documents of at least 1, not {batch_size}.")
        self._documents = tuple(documents)
        self._encoder = encoder
        self._query_prefix = query_prefix
        texts = [document_prefix + _content(document) for document in documents]
        parts = [_unit(encoder(batch), len(batch)) for batch in _batches(texts, batch_size)]
        if len({part.shape[1] for part in parts}) > 1:
            raise UserError("The encoder gives vectors of different lengths; all have to have the same.")
        self._vectors = np.concatenate(parts)
        self._ranked = lru_cache(maxsize=_REMEMBERED)(self._rank)

    def search(self, query: str, k: int) -> tuple[Document, ...]:
        """The `k` best documents, or all if there are fewer, best first.

        Args:
          query: any text; of more than 2,000 characters the first are read.
          k: at least 1.

        Raises:
          UserError: `k` is below 1, or the encoder gives no vector of the documents' length.
        """
        _check_k(k)
        query = " ".join(query[:MAX_QUERY_CHARACTERS].split())
        return self._ranked(query, k) if _WORD.search(query) else ()

    def _rank(self, query: str, k: int) -> tuple[Document, ...]:
        vector = _unit(self._encoder([self._query_prefix + query]), 1)[0]
        if len(vector) != self._vectors.shape[1]:
            raise UserError(f"The encoder gives vectors of length {len(vector)}, not {self._vectors.shape[1]}.")
        score = self._vectors @ vector
        return tuple(self._documents[i] for i in _best(score, np.arange(len(score)), k))


def _content(document: Document) -> str:
    return f"{document.title} {document.text}".strip()


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _check_documents(documents: Sequence[Document]) -> None:
    if not documents:
        raise UserError("There are no documents to search in; give at least one.")


def _check_k(k: int) -> None:
    if k < 1:
        raise UserError(f"A search returns at least 1 document, not {k}.")


def _bm25s(k1: float, b: float) -> Any:
    try:
        import bm25s
    except ImportError as error:
        raise UserError("Searching by words needs a package: pip install bm25s") from error
    return bm25s.BM25(k1=k1, b=b, method="lucene", dtype="float64", backend="numpy", csc_backend="numpy")


def _best(score: np.ndarray, candidates: np.ndarray, k: int) -> list[int]:
    """The best `k` of the candidates, which are in ascending order; the earlier of equals first."""
    values = score[candidates]
    if len(values) > k:
        # Sorting all of a large corpus for its best few would cost more than scoring it.
        keep = values >= np.partition(values, len(values) - k)[len(values) - k]
        candidates, values = candidates[keep], values[keep]
    return candidates[np.argsort(-values, kind="stable")[:k]].tolist()


def _batches(texts: list[str], size: int) -> list[list[str]]:
    return [texts[first : first + size] for first in range(0, len(texts), size)]


def _unit(vectors: Any, count: int) -> np.ndarray:
    """Rows of length 1, so that their products are cosines; a row of zeros stays and is like nothing."""
    found = np.asarray(vectors, np.float32)
    if found.ndim != 2 or len(found) != count or not np.isfinite(found).all():
        raise UserError(f"An encoder turns {count} texts into [{count}, d] finite numbers, not {list(found.shape)}.")
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.divide(found, length, out=np.zeros_like(found), where=length > 0)
