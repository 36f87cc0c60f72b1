"""What is guessed of replies, from those that were drawn."""

import numpy as np
import pytest

from lapwing.core.types import Prompt
from lapwing.generation._replies import Drawn, Guesses, wanted


def drawn(*replies):
    different = sorted(set(replies))
    reply = np.array([different.index(one) for one in replies])
    lengths = np.array([len(one) for one in replies])
    splits = np.concatenate([[0], np.cumsum(lengths)])
    return Drawn([np.array(one, dtype=np.int32) for one in different], reply, splits, np.zeros(splits[-1]))


@pytest.mark.parametrize(
    ("replies", "begun", "expected"),
    [
        ([(1, 2, 3)] * 2, (), [1, 2]),  # the last token ends the reply, and nothing follows it
        ([(1, 2, 3)], (), []),  # once is not enough
        ([(1, 2, 3), (1, 4, 3)] * 2, (), [1]),  # what follows is as often one as the other
        ([(1, 2, 3), (1, 2, 3), (1, 4, 3)], (), [1, 2]),
        ([(1, 2, 3), (1, 2, 3), (1, 4, 3)], (1, 4), []),
        ([(1, 2, 3)] * 2, (5,), []),
        ([(1, 2, 3, 4)] * 2 + [(1, 2)] * 3, (), [1]),  # more end with the 2 than go on after it
        ([tuple(range(70))] * 3, (), []),
    ],
)
def test_a_token_is_guessed_that_followed_more_often_than_not(replies, begun, expected):
    guesses = Guesses()
    guesses.add_tokens(replies)
    assert guesses.continuation(begun, 10) == expected
    assert guesses.continuation(begun, 1) == expected[:1]
    guesses.clear()
    assert guesses.continuation(begun, 10) == []


def test_the_likely_replies_are_the_most_frequent_ones_that_cover_nearly_all():
    guesses = Guesses()
    assert guesses.likely() == []
    guesses.add(drawn(*[(1, 2)] * 60, *[(3, 4)] * 36, *[(5, 6)] * 4))
    assert [reply.tolist() for reply in guesses.likely()] == [[1, 2], [3, 4]]
    guesses.add(drawn(*[(5, 6)] * 100))
    assert [reply.tolist() for reply in guesses.likely()] == [[5, 6], [1, 2], [3, 4]]


def test_what_is_wanted_after_a_beginning_is_what_likely_replies_go_on_with():
    token = np.array([7, 8], dtype=np.int32)
    prompt = Prompt(token, b"key")
    likely = [np.array(reply, dtype=np.int32) for reply in ([1, 2, 3], [1, 4], [5, 6, 7, 8])]
    found = wanted(prompt, np.array([1], dtype=np.int32), likely)
    assert [one.token.tolist() for one in found] == [[7, 8, 1], [7, 8, 1, 2]]
    begun = b"key" + np.array([1], dtype=np.int32).tobytes()
    assert found[1].keys == [begun, begun + np.array([2], dtype=np.int32).tobytes()]
    nothing = wanted(prompt, np.zeros(0, dtype=np.int32), likely)
    assert [one.token.tolist() for one in nothing] == [[7, 8], [7, 8, 1, 2], [7, 8, 1], [7, 8, 5, 6, 7]]
    assert [len(one.keys) for one in nothing] == [1, 3, 2, 4]
