import numpy as np
import pytest

from lapwing.core.errors import LapwingError
from lapwing.core.rng import generator
from lapwing.stats.bootstrap import bootstrap
from lapwing.stats.summarise import summarise
from lapwing.stats.wilson import wilson


def test_booleans_get_the_interval_of_a_share():
    assert summarise(np.array([True, True, False])) == wilson(2, 3)
    assert summarise(np.array([True] * 4), confidence=0.9) == wilson(4, 4, 0.9)


def test_numbers_get_the_bootstrap_also_if_they_are_zeros_and_ones():
    values = np.array([1, 1, 0])
    assert summarise(values) == bootstrap(values)
    assert summarise(values, rng=generator("a")) == bootstrap(values, rng=generator("a"))


@pytest.mark.parametrize("values", [np.zeros(0, dtype=bool), np.zeros(0)])
def test_nothing_cannot_be_summarised(values):
    with pytest.raises(LapwingError):
        summarise(values)
