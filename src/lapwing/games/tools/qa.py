"""Answers of questions as the field compares them: normalised, by exact match and by F1."""

import re
import string
from collections import Counter
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """Lower the case, then drop ASCII punctuation, English articles and superfluous blanks, in this order.

        "The  Beatles!" → "beatles"      "U.S. a-team" → "us ateam"      "The The" → ""

    Reference: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", section 6.1 and
      its evaluation script. https://arxiv.org/abs/1606.05250

    Args:
      text: an answer.

    Returns:
      Words between single blanks; empty where nothing is left.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def exact_match(answer: str, aliases: Iterable[str]) -> float:
    """1 if the normalised answer is a normalised alias, otherwise 0.

    Aliases of which nothing is left are passed over. Where none remains the question has no answer, and only an
    answer of which nothing is left either is right, as in SQuAD 2.0.

    Reference: Rajpurkar et al. 2018, "Know What You Don't Know: Unanswerable Questions for SQuAD", evaluation
      script. https://arxiv.org/abs/1806.03822

    Args:
      answer: what was answered.
      aliases: what is right.

    Returns:
      0 or 1.
    """
    return float(normalise_answer(answer) in _gold(aliases))


def f1(answer: str, aliases: Iterable[str]) -> float:
    """Harmonic mean of precision and recall of the words, for the alias where it is highest.

        F1 = 2 · common / (words of the answer + words of the alias)

    Words are those of the normalised texts and count as often as they occur. Where one of the two has no words, F1
    is 1 if the other has none either and 0 otherwise; which aliases count is said at `exact_match`.

        f1("the cat sat", ["cat sat down"]) = 2·2 / (2 + 3) = 0.8

    Reference: as `exact_match`.

    Args:
      answer: what was answered.
      aliases: what is right.

    Returns:
      A number in [0, 1].
    """
    given = normalise_answer(answer).split()
    return max(_f1(given, alias.split()) for alias in _gold(aliases))


def _gold(aliases: Iterable[str]) -> list[str]:
    return [alias for alias in map(normalise_answer, aliases) if alias] or [""]


def _f1(given: list[str], right: list[str]) -> float:
    if not given or not right:
        return float(given == right)
    common = (Counter(given) & Counter(right)).total()
    return 2 * common / (len(given) + len(right))
