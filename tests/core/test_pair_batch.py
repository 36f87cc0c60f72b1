import numpy as np
import pytest

from lapwing.core.errors import LapwingError
from lapwing.core.pair_batch import PairBatch
from lapwing.testing import episodes

BATCH = episodes([[0], [1], [2]])


def test_columns_are_taken_as_they_are_promised():
    pairs = PairBatch(np.array([2, 1]), np.array([0, 0]), np.array([1, 0.5]), BATCH)
    assert (pairs.chosen.dtype, pairs.weight.dtype, pairs.margin.tolist()) == (np.int64, np.float64, [0.0, 0.0])
    assert pairs.num_pairs == 2
    with pytest.raises(ValueError, match="read-only"):
        pairs.weight[0] = 2.0


def test_no_pairs_are_pairs_too():
    pairs = PairBatch(np.zeros(0), np.zeros(0), np.zeros(0), BATCH.select(np.zeros(3, dtype=bool)))
    assert (pairs.num_pairs, len(pairs.margin), pairs.chosen.dtype) == (0, 0, np.int64)


def test_some_of_the_pairs():
    pairs = PairBatch([2, 1], [0, 0], [1.0, 0.5], BATCH, margin=[3.0, 4.0])
    kept = pairs.select(np.array([False, True]))
    assert [x.tolist() for x in (kept.chosen, kept.rejected, kept.weight, kept.margin)] == [[1], [0], [0.5], [4.0]]
    assert kept.batch is BATCH


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (([0], [1, 2], [1.0]), "'rejected' has length 2, the pairs need 1"),
        (([0], [1], [1.0, 2.0]), "'weight' has length 2"),
        (([0], [1], [1.0], [1.0, 2.0]), "'margin' has length 2"),
        (([3], [1], [1.0]), "'chosen' names episode 3; the batch has 3"),
        (([0], [-1], [1.0]), "'rejected' names episode -1"),
        (([0, 1], [2, 1], [1.0, 1.0]), "Pair 1 prefers episode 1 to itself"),
        (([0], [1], [-1.0]), "Weights of pairs are finite and at least 0"),
        (([0], [1], [np.nan]), "Weights of pairs are finite"),
        (([0], [1], [1.0], [np.inf]), "Margins of pairs are finite"),
    ],
)
def test_what_is_no_pair_is_refused(columns, sentence):
    chosen, rejected, weight, *margin = columns
    with pytest.raises(LapwingError, match=sentence):
        PairBatch(chosen, rejected, weight, BATCH, **({"margin": margin[0]} if margin else {}))
