"""What the tests of modulations share: random ragged batches."""

from collections.abc import Callable

import numpy as np
import pytest

from lapwing.core.batch import EpisodeBatch
from lapwing.testing import episodes


def _random_batch(seed: int) -> EpisodeBatch:
    """One to seven episodes in interleaved groups, some of one, with zero-token steps, truncation and few keys."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 5, size=rng.integers(1, 8))

    def steps(draw):
        return [[draw() for _ in range(length)] for length in lengths]

    return episodes(
        steps(lambda: round(float(rng.normal()), 2)),
        group=list(rng.integers(0, 3, len(lengths))),
        truncated=list(rng.random(len(lengths)) < 0.3),
        tokens_per_step=steps(lambda: int(rng.integers(0, 4))),
        # 0 matches nothing.
        view_key=steps(lambda: int(rng.integers(0, 4))),
        action_key=steps(lambda: int(rng.integers(0, 3))),
        next_view_key=steps(lambda: int(rng.integers(0, 3))),
        entropy=steps(lambda: float(rng.choice([0.1, 0.5, 2.0]))),
        success=list(rng.integers(0, 2, len(lengths)).astype(float)),
    )


@pytest.fixture
def random_batch() -> Callable[[int], EpisodeBatch]:
    return _random_batch
