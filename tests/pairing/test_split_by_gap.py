import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.pairing.by_return import by_return
from lapwing.pairing.split_by_gap import split_by_gap, split_pairs
from lapwing.testing import episodes


def scored(gaps):
    """A labelled pair for each gap: the first episode is preferred, its score is that much larger."""
    rewards = [[float(first)] for _ in gaps for first in (True, False)]
    scores = [[score] for gap in gaps for score in (5.0 + gap, 5.0)]
    return episodes(rewards, group=[n // 2 for n in range(2 * len(gaps))], **{"part:score": scores})


def gaps(pairs):
    return sorted(np.round(pairs.margin, 9).tolist())


def test_the_published_case():
    #   gaps .1, 2, .5, 3: median 1.25, easy {2, 3}, hard {.1, .5}
    batch = scored([0.1, 2, 0.5, 3])
    assert gaps(split_by_gap(batch, part="score")) == [2.0, 3.0]
    assert gaps(split_by_gap(batch, part="score", keep="hard")) == [0.1, 0.5]
    split = split_pairs(by_return(batch), batch.extra["part:score"])
    assert split.threshold == pytest.approx(1.25)


def test_a_gap_at_the_threshold_is_hard():
    batch = scored([1, 2, 3])
    assert gaps(split_by_gap(batch, part="score", threshold=2.0)) == [3.0]
    assert gaps(split_by_gap(batch, part="score", threshold=2.0, keep="hard")) == [1.0, 2.0]
    #   the median is one of three
    assert gaps(split_by_gap(batch, part="score")) == [3.0]


def test_pairs_that_the_score_contradicts_are_dropped_or_flipped():
    # Fails when the median counts what was dropped, or a flipped pair keeps its label.
    batch = scored([1, -4, 2, 3])
    #   dropped: median of 1, 2, 3 = 2; flipped: of 1, 2, 3, 4 = 2.5
    assert gaps(split_by_gap(batch, part="score")) == [3.0]
    flipped = split_by_gap(batch, part="score", on_conflict="flip")
    assert gaps(flipped) == [3.0, 4.0]
    assert set(zip(flipped.chosen.tolist(), flipped.rejected.tolist(), strict=True)) == {(3, 2), (6, 7)}
    dropped = split_by_gap(batch, part="score", threshold=0.0)
    assert set(zip(dropped.chosen.tolist(), dropped.rejected.tolist(), strict=True)) == {(0, 1), (4, 5), (6, 7)}


def test_in_games_the_gap_is_the_difference_of_the_returns():
    batch = episodes([[0], [3], [1], [2], [2]], group=[0, 0, 1, 1, 1])
    #   gaps 3 and 1: median 2
    easy = split_by_gap(batch)
    assert (easy.chosen.tolist(), easy.rejected.tolist(), gaps(easy)) == ([1], [0], [3.0])


@given(st.lists(st.integers(-4, 4), max_size=8), st.sampled_from(["drop", "flip"]))
def test_each_pair_is_easy_or_hard(numbers, on_conflict):
    batch = scored(numbers) if numbers else scored([1]).select(np.zeros(2, dtype=bool))
    easy = split_by_gap(batch, part="score", on_conflict=on_conflict)
    hard = split_by_gap(batch, part="score", on_conflict=on_conflict, keep="hard")
    kept = [abs(n) for n in numbers if n >= 0 or on_conflict == "flip"]
    assert sorted(gaps(easy) + gaps(hard)) == sorted(map(float, kept))
    assert max(gaps(hard), default=-1.0) < min(gaps(easy), default=np.inf)
    assert easy.num_pairs <= hard.num_pairs


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"keep": "simple"}, "no keep 'simple'; "),
        ({"on_conflict": "swap"}, "no on_conflict 'swap'"),
        ({"threshold": -1.0}, "threshold must be at least 0"),
        ({"threshold": float("nan")}, "threshold must be at least 0"),
    ],
)
def test_wrong_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        split_by_gap(scored([1, 2]), **settings)


def test_a_score_that_nobody_pays_is_refused():
    with pytest.raises(MissingColumnError, match="split_by_gap needs the column 'part:judge'"):
        split_by_gap(scored([1]), part="judge")
