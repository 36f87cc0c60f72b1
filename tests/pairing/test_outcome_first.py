import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.pairing.outcome_first import outcome_first
from lapwing.testing import episodes


def judged(verdicts, success, **others):
    """Episodes whose steps a judge called right or wrong; the reward says something else."""
    rewards = [[9.0 - n] * len(steps) for n, steps in enumerate(verdicts)]
    return episodes(rewards, success=[float(s) for s in success], **{"part:right": verdicts}, **others)


@pytest.mark.parametrize(
    ("success", "verdicts", "expected"),
    [
        #   (o = 1, p = .2) against (0, .9): the outcome decides, w = 1
        ((1, 0), ([1, 0, 0, 0, 0], [1] * 9 + [0]), [(0, 1, 1.0, 1.0)]),
        #   (1, .75) against (1, .5): w = .25
        ((1, 1), ([1, 1, 1, 0], [1, 0]), [(0, 1, 0.25, 0.25)]),
        #   equal: no pair
        ((0, 0), ([1, 0], [0, 1, 0, 1]), []),
    ],
    ids=["the outcome decides", "the process decides", "nothing decides"],
)
def test_the_published_cases(listed, success, verdicts, expected):
    # Fails when the process outweighs the outcome, or is summed over steps instead of averaged.
    assert listed(outcome_first(judged(verdicts, success), part="right")) == expected


def test_all_pairs_of_each_group_and_of_no_two():
    batch = judged([[1], [0], [1], [0]], (1, 1, 0, 0), group=[0, 1, 1, 0])
    pairs = outcome_first(batch, part="right")
    assert set(zip(pairs.chosen.tolist(), pairs.rejected.tolist(), strict=True)) == {(0, 3), (1, 2)}
    batch = judged([[1], [0], [1], [0]], (1, 1, 0, 0))
    pairs = outcome_first(batch, part="right")
    assert pairs.num_pairs == 6
    assert pairs.weight.tolist() == [1.0] * 6


def test_without_a_part_the_mean_reward_is_the_process(listed):
    #   both arrive, in 2 steps and in 4: ½ against ¼
    batch = episodes([[0, 1], [0, 0, 0, 1]], success=[1.0, 1.0])
    assert listed(outcome_first(batch)) == [(0, 1, 0.25, 0.25)]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=2, max_size=7))
def test_every_pair_is_decided_once_by_the_rule(drawn):
    batch = judged([[p / 3] for _, p in drawn], [o for o, _ in drawn])
    pairs = outcome_first(batch, part="right")
    found = dict(zip(zip(pairs.chosen.tolist(), pairs.rejected.tolist(), strict=True), pairs.weight, strict=True))
    for i, (o, p) in enumerate(drawn):
        for j, (other, q) in enumerate(drawn):
            if (o, p) <= (other, q):
                assert (i, j) not in found
            else:
                assert found[i, j] == pytest.approx(1.0 if o != other else (p - q) / 3)


def test_what_the_game_does_not_say_is_refused():
    with pytest.raises(MissingColumnError, match="outcome_first needs the column 'success'"):
        outcome_first(episodes([[0], [1]]))
    with pytest.raises(UserError, match="outcome_first needs finite numbers in the column 'success'"):
        outcome_first(episodes([[0], [1]], success=[1.0, np.nan]))
    with pytest.raises(MissingColumnError, match="outcome_first needs the column 'part:wrong'"):
        outcome_first(judged([[1], [0]], (1, 0)), part="wrong")
