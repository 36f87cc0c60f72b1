import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.credit.grpo import grpo
from lapwing.shaping.empo import empo
from lapwing.testing import episodes


def make(answers, group=None, outcome=None):
    """One-step episodes with these answers as letters; a dash is none."""
    keys = ["-abcdefgh".index(answer) for answer in answers]
    batch = episodes([[0.25]] * len(keys), group=group, outcome=outcome)
    return batch.with_columns(answer_key=np.array(keys, dtype=np.uint64))


def test_the_printed_group():
    shaped = empo(make("aaabbc"))
    np.testing.assert_allclose(shaped.outcome, [1 / 2, 1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 6])
    expected = [0.894427, 0.894427, 0.894427, -0.447214, -0.447214, -1.788854]
    np.testing.assert_allclose(grpo(shaped, ddof=0, eps=0.0), expected, atol=1e-6)
    #   H = 1.0114: the gates stand on either side of it
    np.testing.assert_array_equal(empo(make("aaabbc"), h_low=1.0115).outcome, np.zeros(6))
    np.testing.assert_array_equal(empo(make("aaabbc"), h_high=1.0114).outcome, np.zeros(6))
    assert empo(make("aaabbc"), h_low=1.0114, h_high=1.0115).outcome.any()


def test_a_group_that_agrees_has_everything_and_one_that_never_does_nothing():
    np.testing.assert_array_equal(empo(make("aaaa")).outcome, np.ones(4))
    np.testing.assert_array_equal(grpo(empo(make("aaaa"))), np.zeros(4))
    np.testing.assert_array_equal(empo(make("abcd")).outcome, np.zeros(4))
    np.testing.assert_array_equal(empo(make("a")).outcome, [0])


def test_no_answer_agrees_with_nothing_but_counts_in_the_group():
    np.testing.assert_array_equal(empo(make("aa--")).outcome, [0.5, 0.5, 0, 0])
    np.testing.assert_array_equal(empo(make("----")).outcome, np.zeros(4))


def test_neither_other_groups_nor_the_label_count():
    # Fails when the same answer to two questions is one cluster, or the outcome shines through.
    batch = make("aabacc", group=[0, 0, 0, 1, 1, 1], outcome=[1, 0, 1, 0, 1, 0])
    np.testing.assert_allclose(empo(batch).outcome, [2 / 3, 2 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    np.testing.assert_array_equal(empo(batch).reward, batch.reward)


@given(st.lists(st.tuples(st.sampled_from("-abc"), st.integers(0, 2)), min_size=1, max_size=12))
def test_it_agrees_with_the_definition(drawn):
    answers, group = zip(*drawn, strict=True)
    expected = []
    for answer, mine in drawn:
        others = [a for a, g in drawn if g == mine]
        clusters = [others.count(a) for a in set(others) - {"-"}] + [1] * others.count("-")
        entropy = -sum(n / len(others) * np.log(n / len(others)) for n in clusters)
        clear = entropy < np.log(len(others)) - 1e-9
        expected.append(others.count(answer) / len(others) if clear and answer != "-" else 0.0)
    np.testing.assert_allclose(empo(make(answers, group=list(group))).outcome, expected)


def test_a_game_without_answers_is_refused():
    with pytest.raises(MissingColumnError, match=r"empo needs the column 'answer_key'"):
        empo(episodes([[0]]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"h_low": -1.0}, "h_low must be"),
        ({"h_low": 1.0, "h_high": 1.0}, "h_high must be above"),
        ({"h_low": np.nan}, "h_low"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        empo(make("ab"), **settings)
