import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.games.tools.qa import exact_match, f1, normalise_answer

WORDS = st.sampled_from(["a", "the", "The", "cat", "Cat!", "sat", "on", "mat", "--", "", "an", "é", "it's"])
TEXTS = st.lists(WORDS, max_size=6).map(" ".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Beatles!", "beatles"),
        ("U.S. a-team", "us ateam"),  # punctuation goes first: "a-team" has no article
        ("An apple, a pear\nand THE plum.", "apple pear and plum"),
        ("theatre an", "theatre"),
        ("The The", ""),
        ("a.n", ""),  # becomes the article "an"
        ("", ""),
        ("  \t ", ""),
        ("«Écoute»", "«écoute»"),  # only ASCII punctuation
        ("1,000", "1000"),
    ],
)
def test_normalised_by_hand(text, expected):
    assert normalise_answer(text) == expected


@pytest.mark.parametrize(
    ("answer", "aliases", "match", "score"),
    [
        ("Paris", ["paris"], 1.0, 1.0),
        ("the Paris.", ["London", "Paris"], 1.0, 1.0),
        ("cat sat", ["cat sat down"], 0.0, 4 / 5),  # 2·2 / (2 + 3)
        ("the cat sat", ["cat sat down", "cat"], 0.0, 4 / 5),  # the better alias; "cat" gives 2·1 / (2 + 1)
        ("cat cat", ["cat dog"], 0.0, 1 / 2),  # a word counts once: 2·1 / (2 + 2)
        ("cat cat", ["dog cat cat"], 0.0, 4 / 5),
        ("sat cat", ["cat sat"], 0.0, 1.0),  # F1 knows no order
        ("dog", ["cat"], 0.0, 0.0),
        ("", ["cat"], 0.0, 0.0),
        ("the", ["cat"], 0.0, 0.0),
        ("", [], 1.0, 1.0),  # a question without an answer
        ("cat", [], 0.0, 0.0),
        ("the", [""], 1.0, 1.0),
        ("", ["the", "cat"], 0.0, 0.0),  # an alias of which nothing is left is passed over
        ("", ["the"], 1.0, 1.0),
    ],
)
def test_matches_by_hand(answer, aliases, match, score):
    assert exact_match(answer, aliases) == match
    assert f1(answer, aliases) == pytest.approx(score, abs=1e-12)


@given(TEXTS, st.lists(TEXTS, max_size=3))
def test_f1_is_a_share_that_is_one_for_an_exact_match_and_best_over_aliases(answer, aliases):
    score = f1(answer, aliases)
    assert 0.0 <= score <= 1.0
    assert score >= exact_match(answer, aliases)
    gold = [alias for alias in aliases if normalise_answer(alias)]
    assert score == max((f1(answer, [alias]) for alias in gold), default=f1(answer, []))
    assert f1(answer, iter(aliases)) == score


@given(TEXTS, TEXTS)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(answer, alias):
    given_words, right = normalise_answer(answer).split(), normalise_answer(alias).split()
    if not given_words or not right:
        assert f1(answer, [alias]) == float(given_words == right)
        return
    left = list(right)
    common = 0
    for word in given_words:
        if word in left:
            left.remove(word)
            common += 1
    precision, recall = common / len(given_words), common / len(right)
    expected = 2 * precision * recall / (precision + recall) if common else 0.0
    assert f1(answer, [alias]) == pytest.approx(expected, abs=1e-12)
    assert f1(alias, [answer]) == pytest.approx(expected, abs=1e-12)


@given(st.text(max_size=30))
def test_normalising_leaves_words_between_single_blanks_without_case_punctuation_and_articles(text):
    once = normalise_answer(text)
    assert once == once.strip()
    assert "  " not in once
    assert not set(once) & set(string.punctuation)
    assert not re.search(r"\b(a|an|the)\b", once)
    assert normalise_answer(once) == once or once != once.lower()  # some letters have no stable lower case


def test_a_megabyte_is_answered_at_once():
    assert f1("the cat " * 125_000, ["cat"]) == pytest.approx(2 / 125_001)
