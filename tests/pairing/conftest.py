import numpy as np
import pytest


@pytest.fixture
def listed():
    """Pairs as a set of (chosen, rejected, weight, margin), rounded."""

    def make(pairs):
        columns = (pairs.chosen, pairs.rejected, np.round(pairs.weight, 9), np.round(pairs.margin, 9))
        return sorted(zip(*(column.tolist() for column in columns), strict=True))

    return make
