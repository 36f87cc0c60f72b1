import random
import re
import time
import warnings

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lapwing.games.tools._patterns import LONGEST_TEXT, Pattern


def joined(*parts):
    return st.tuples(*parts).map("".join)


ATOMS = st.sampled_from(
    ["a", "b", "é", "\n", ".", "[ab]", "[^a]", r"[\]a-c]", "[]a]", r"\d", r"\W", r"\.", r"\x61", "]", "}"]
)
QUANTIFIERS = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0}", "{,2}", "{2,}", "{,}", "*?", "??", "{1,2}?"])


def larger(inner):
    group = st.one_of(joined(st.just("("), inner, st.just(")")), joined(st.just("(?:"), inner, st.just(")")))
    return st.one_of(
        st.lists(inner, max_size=4).map("".join),
        joined(inner, st.just("|"), inner),
        group,
        joined(st.one_of(ATOMS, group), QUANTIFIERS),
    )


PATTERNS = st.recursive(ATOMS, larger, max_leaves=8)


@settings(max_examples=500, deadline=None)
@given(PATTERNS, st.lists(st.text(alphabet="abé1.]} \n", max_size=8), min_size=1, max_size=8))
@example("(a*)*b", ["aab", "b", "", "aa"])
@example("(a|ab)(c|bcd)(d*)", ["abcd", "abc"])
@example("(?:a?){3}a{3}", ["aaa", "aaaaaa", "aaaaaaa", "aa"])
def test_a_pattern_matches_what_pythons_matches(source, texts):
    try:
        pattern = Pattern(source)
    except ValueError as error:
        # Two quantifiers in a row are an error there too; the limits are tested below.
        assume("most" not in str(error) and "smaller" not in str(error))
        assert "another quantifier" in str(error)
        return
    for text in texts:
        assert pattern.matches(text) == bool(re.fullmatch(source, text, re.DOTALL)), (source, text)


@pytest.mark.parametrize(("source", "yes", "no"), [
    ("", [""], ["a"]),
    ("^a|b$", ["a", "b"], ["ab", "a\n"]),
    (r"a\$", ["a$"], ["a"]),
    (r"a\\$", ["a\\"], ["a\\$"]),
    ("a.b", ["a\nb", "axb"], ["ab"]),
    (r"[\w.]+@example\.org", ["bob@example.org", "b.ö_1@example.org"], ["bob@example_org", "bob@example.org\n", "@"]),
    ("(a)" * 60, ["a" * 60], ["a" * 59]),
    ("(?:ab){2,3}", ["abab", "ababab"], ["ab", "abababab", "aba"]),
    ("\\U0001F600", ["\N{GRINNING FACE}"], ["a"]),
])  # fmt: skip
def test_patterns_by_hand(source, yes, no):
    pattern = Pattern(source)
    assert [text for text in yes if not pattern.matches(text)] == []
    assert [text for text in no if pattern.matches(text)] == []


# Python's own matcher would need longer than the universe has for the first three.
@pytest.mark.parametrize("source", ["(a+)+b", "(a|a)*b", "(a*)*b", ".*.*.*.*.*.*b", "(a?){450}", ".*a.{400}b"])
def test_no_text_takes_long(source):
    pattern = Pattern(source)
    start = time.process_time()
    assert not pattern.matches("a" * LONGEST_TEXT)
    assert time.process_time() - start < 5.0


def test_what_is_remembered_of_texts_is_bounded_and_changes_nothing():
    source, rng, most = "(?:.*a.{14}b|[^a]*)", random.Random(0), 0
    pattern = Pattern(source)
    texts = ["".join(rng.choices("ab", k=LONGEST_TEXT)) for _ in range(3)]
    texts.append("".join(chr(300 + i) for i in range(LONGEST_TEXT)))
    for text in texts:
        assert pattern.matches(text) == bool(re.fullmatch(source, text, re.DOTALL))
        most = max(most, len(pattern._reach), len(pattern._readers))
    assert 100 < most <= 4096


@pytest.mark.parametrize(("source", "why"), [
    ("(?=a)b", "only '\\(\\?:' is supported"),
    ("(?i)a", "only '\\(\\?:' is supported"),
    ("(?P<name>a)", "only '\\(\\?:' is supported"),
    (r"(a)\1", "no supported escape"),
    (r"\bword", "no supported escape"),
    ("a\\", "no supported escape"),
    ("a^b", "'\\^' stands inside"),
    ("a$b", "'\\$' stands inside"),
    ("a**", "another quantifier"),
    ("a*+", "another quantifier"),
    ("a{2}{3}", "another quantifier"),
    ("*a", "nothing to repeat"),
    ("a|+", "nothing to repeat"),
    ("a{x}", r"write \\\{"),
    ("a{3,2}", "lower bound above"),
    ("(a", "'\\(' is never closed"),
    ("a)", "'\\)' closes nothing"),
    ("[a", "'\\[' is never closed"),
    ("[b-a]", "no set of characters"),
    ("[[a]]", "no set of characters"),
    (r"\U00110000", "no set of characters"),
    ("a" * 1001, "1001 characters"),
    ("a{501}", "more than 500"),
    ("(a{30}){30}", "more than 500"),
    ("(){1000000000000}", "repeats too much"),
    ("(((){1000}){1000}){1000}", "repeats too much"),
    ("(" * 51 + ")" * 51, "more than 50 deep"),
    ("(" * 400, "more than 50 deep"),
])  # fmt: skip
def test_what_is_no_pattern_is_refused_without_a_warning(source, why):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=why):
            Pattern(source)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab()[]{}|*+?.^$\\,:-1dw", max_size=20))
def test_any_text_is_a_pattern_or_a_value_error(source):
    try:
        pattern = Pattern(source)
    except ValueError as error:
        assert str(error)
        return
    # What is accepted is a pattern of Python's with the same meaning.
    for text in ("", "a", "ab", "1", "a{", source):
        assert pattern.matches(text) == bool(re.fullmatch(source, text, re.DOTALL)), (source, text)
